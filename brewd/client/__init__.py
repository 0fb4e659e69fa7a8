"""brewd's client for Python and trio.

    async with brewd.client.join(url, cafe_id=…, username=…, join_token=…) as room:
        async for event in room:
            if isinstance(event, MessageNew) and event.message.content == "!time":
                await room.send(f"It is {datetime.now():%H:%M}.")

`connect` is the same for an access token; `agent` asks the café's agent; `Client` is the HTTP API alone.
"""

from brewd.client.asking import Agent, Answer, agent
from brewd.client.events import (
    BadgeAwarded,
    Disconnected,
    DmDeleted,
    DmMessage,
    DmRead,
    DmTyping,
    Event,
    Joined,
    Lagged,
    LineBroken,
    MessageDeleted,
    MessageNew,
    Missed,
    ModerationMuted,
    ModerationUnmuted,
    ModerationWarning,
    PokeMatched,
    PokeReceived,
    ServerDraining,
    ServerError,
    TopicsUpdate,
    TypingIndicator,
    Unknown,
    UsersUpdate,
)
from brewd.client.failures import SessionOver, Unconfirmed, Unreachable
from brewd.client.http import Client
from brewd.client.room import Room, connect, join
from brewd.client.shapes import DirectMessage, Grant, Message, Page, Person, Posted, Receipt, Sent, StaffLogin, Topic, User
from brewd.client.visit import Policy
from brewd.errors import Rejected

__all__ = [
    "Agent",
    "Answer",
    "BadgeAwarded",
    "Client",
    "DirectMessage",
    "Disconnected",
    "DmDeleted",
    "DmMessage",
    "DmRead",
    "DmTyping",
    "Event",
    "Grant",
    "Joined",
    "Lagged",
    "LineBroken",
    "Message",
    "MessageDeleted",
    "MessageNew",
    "Missed",
    "ModerationMuted",
    "ModerationUnmuted",
    "ModerationWarning",
    "Page",
    "Person",
    "PokeMatched",
    "PokeReceived",
    "Policy",
    "Posted",
    "Receipt",
    "Rejected",
    "Room",
    "Sent",
    "ServerDraining",
    "ServerError",
    "SessionOver",
    "StaffLogin",
    "Topic",
    "TopicsUpdate",
    "TypingIndicator",
    "Unconfirmed",
    "Unknown",
    "Unreachable",
    "User",
    "UsersUpdate",
    "agent",
    "connect",
    "join",
]
