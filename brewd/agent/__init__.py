"""Claude in the café: answers what guests ask, in a stream, from what the café is willing to say about itself.

It runs beside the rooms, never in their loop: what takes time of an answer is done by a process of its own (`worker`; the
daemon's end of it is `remote`). It asks a café's actor for a token and for what is talked about, and waits for nobody inside one;
what is left of it for the rooms' loop, frames of askers and chunks for them included, waits a few ms where a message is under way
(`Journal.give_way`). How a question travels:

1. `Agent.look` checks the words and looks for the same answer under way or in memory, `Agent.ask` in Redis, too; then it costs nothing.
2. Else it needs a place among those in flight, something left in the café's budget, and a token of its asker, in this order,
   so that what is refused has cost nothing. From here on whoever asks the same shares the answer.
3. The call is written down (`agent_queries`, by `row_writer`), and only then made. The worker makes the prompt of the facts, and the call, and gathers the words into chunks (`writer`), which every asker of that question hears, with an index.
4. What it really cost, by the API's own count, replaces what was reserved for it.

What is sent is made in `prompt` from the facts that `context` gathers, and has no names, tokens, networks or places in it.

    inquiry = Inquiry(cafe_id=…, who=…, session_id=…, query=…, personality=None)
    asked = agent.look(inquiry) or await agent.ask(inquiry)    # raises Rejected; asking takes `queue_s` and a bit
    listening = asked.listen(tell)                             # Chunk*, then Complete or Failed; each in the step that brings it
    listening.stop()                                           # a lost socket
    agent.cancel(asked.query_id, who.user_id)                  # its listenings end, without an end
    agent.resume(query_id, user_id).listen(tell, index)        # what follows, for 2 min after the end
"""
