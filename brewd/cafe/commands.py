"""What a room can be told. Frozen and plain, so that a command could cross a wire as it is.

`to` is an address: the number of a socket attached to the café, or of one question asked from elsewhere. Whatever the room has
to say to it comes back as an effect naming that number. `ref` is the client's own mark on its request.
"""

from __future__ import annotations

from msgspec import Struct

from brewd.cafe.events import Event
from brewd.cafe.limits import Action, Terms

Ref = str | int | None


class Who(Struct, frozen=True, gc=False):
    """The person behind an address. Staff watch a room without being counted as present."""

    user_id: str
    username: str
    badge: str | None = None
    staff: bool = False
    moderator: bool = False


class Join(Struct, frozen=True):
    """A socket enters. `since`/`epoch`: the last message it has. `earlier`: messages after `since` that the room no longer holds."""

    to: int
    who: Who
    ref: Ref = None
    since: int | None = None
    epoch: str | None = None
    earlier: tuple[object, ...] = ()


class Rejoin(Struct, frozen=True):
    """A socket that was in the room before its actor restarted. It has seen everything up to the restart; the others notice nothing."""

    to: int
    who: Who
    status: str = "online"


class Leave(Struct, frozen=True):
    """A goodbye: this socket leaves now. `ref` is answered."""

    to: int
    ref: Ref = None


class Drop(Struct, frozen=True):
    """The socket is gone without a goodbye: its user stays present for the grace time."""

    to: int


class Send(Struct, frozen=True, gc=False):
    to: int
    who: Who
    content: str
    client_msg_id: str | None = None
    ref: Ref = None


class Announce(Struct, frozen=True):
    """Said by the house, not by somebody in the room: `who` is no member and has no limits. Answered, like any message, when it is stored."""

    who: Who
    content: str
    to: int = 0


class Delete(Struct, frozen=True):
    """By its author, or by a moderator."""

    who: Who
    message_id: str
    to: int = 0
    ref: Ref = None


class Typing(Struct, frozen=True):
    to: int
    on: bool


class SetStatus(Struct, frozen=True):
    to: int
    status: str
    ref: Ref = None


class PresenceQuery(Struct, frozen=True):
    to: int = 0


class TopicsQuery(Struct, frozen=True):
    limit: int
    to: int = 0


class TalkQuery(Struct, frozen=True):
    """What was said last, and what is talked about: at most so many of each."""

    messages: int
    topics: int
    to: int = 0


class CompanyQuery(Struct, frozen=True):
    """Who the others see here, and who is muted, as ids: much cheaper than `PresenceQuery`."""

    to: int = 0


class Remove(Struct, frozen=True):
    """A user's time here is over (logged out, expired): every socket leaves at once, without grace."""

    user_id: str


class Forget(Struct, frozen=True):
    """The time of these people is over, everywhere: user ids, each with the id that what they said stays under. At most a few hundred."""

    people: tuple[tuple[str, str], ...]
    to: int = 0


class Discard(Struct, frozen=True):
    """Messages made before this time (RFC 3339) are kept no longer."""

    before: str
    to: int = 0


class Notify(Struct, frozen=True):
    """Something for one user alone, on every socket they have here, in the room or not. What it is about is stored already."""

    user_id: str
    event: Event


class SetBadge(Struct, frozen=True):
    """From now on this user has that badge, or none. The addresses they have say so already; this is for the others to see."""

    user_id: str
    badge: str | None


class Mute(Struct, frozen=True):
    """A moderator's word, stored already. What this user writes is refused until then."""

    user_id: str
    until_ms: int
    reason: str
    to: int = 0


class Unmute(Struct, frozen=True):
    user_id: str
    to: int = 0


class MuteQuery(Struct, frozen=True):
    user_id: str
    to: int = 0


class SetTerms(Struct, frozen=True):
    """Other limits and spam rules from now on. What people have used, they have used."""

    terms: Terms
    to: int = 0


class LimitsQuery(Struct, frozen=True):
    """What `who` may still do. Takes nothing."""

    who: Who
    session_id: str
    to: int = 0


class Take(Struct, frozen=True):
    """`who` pokes or asks the agent: refused when muted or when there is no token left."""

    action: Action
    who: Who
    session_id: str
    to: int = 0


class ResetLimits(Struct, frozen=True):
    """Everything back for one user: of one action, or of all (None)."""

    user_id: str
    action: Action | None = None
    to: int = 0


class SpamQuery(Struct, frozen=True):
    """What would become of this text. Takes nothing and is not remembered."""

    user_id: str
    content: str
    to: int = 0


class Whisper(Struct, frozen=True, gc=False):
    """`who` writes to one other alone: may they? What may go is remembered as said, until `Unsay`. It is stored, and told, elsewhere."""

    who: Who
    other_id: str
    channel_id: str
    content: str
    to: int = 0


class Unsay(Struct, frozen=True, gc=False):
    """What was to be whispered is not stored. `warned`: it was let through with a warning."""

    user_id: str
    channel_id: str
    content: str
    warned: bool


class WhisperTyping(Struct, frozen=True):
    """`user_id` types to one other, or stops; what the other is told of it."""

    user_id: str
    other_id: str
    channel_id: str
    on: bool


class Tick(Struct, frozen=True):
    """A deadline the room asked for has come."""


Question = (
    PresenceQuery | CompanyQuery | TopicsQuery | TalkQuery | Announce | Delete | Mute | Unmute | MuteQuery | SetTerms
    | LimitsQuery | Take | ResetLimits | SpamQuery | Whisper | Forget | Discard
)  # fmt: skip
"""What can be asked from outside the room."""

Command = Join | Rejoin | Leave | Drop | Send | Typing | SetStatus | Remove | Notify | SetBadge | Unsay | WhisperTyping | Tick | Question
