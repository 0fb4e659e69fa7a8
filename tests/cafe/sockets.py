"""Sockets that keep what they are told, and a dialect that counts how often it spells something."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from brewd.cafe.commands import Ref
from brewd.cafe.events import Event
from brewd.cafe.fanout import Dialect

encode = msgspec.json.encode


class Spelling:
    """A `Dialect`: one JSON object a line. `encoded` counts events by name."""

    def __init__(self) -> None:
        self.encoded: Counter[str] = Counter()

    def event(self, event: Event) -> bytes:
        self.encoded[event.name] += 1
        return encode({"event": event.name, "data": event}) + b"\n"

    def reply(self, ref: Ref, data: Any) -> bytes:
        return encode({"event": "reply", "ref": ref, "data": data}) + b"\n"

    def error(self, ref: Ref, data: dict[str, Any]) -> bytes:
        return encode({"event": "error", "ref": ref, "data": data}) + b"\n"


class Socket:
    """An `Outbox` in memory. `pushes` are the buffers as they came; `told` what is in them."""

    def __init__(self, dialect: Spelling | None = None) -> None:
        self.dialect: Dialect = dialect or Spelling()
        self.slow = False
        self.pushes: list[bytes] = []
        self.withheld: list[int] = []
        self.closed: tuple[int, str] | None = None

    def push(self, frames: bytes) -> None:
        self.pushes.append(frames)

    def withhold(self, seq: int) -> None:
        self.withheld.append(seq)

    def close(self, code: int, reason: str) -> None:
        self.closed = self.closed or (code, reason)

    @property
    def told(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for frames in self.pushes for line in frames.splitlines()]

    def news(self) -> list[dict[str, Any]]:
        """What was told since the last look."""
        told = self.told
        self.pushes.clear()
        return told

    def brief(self) -> list[str]:
        """What was told since the last look, a word each: `reply r1`, `error r2 internal`, `message:new 7`, `users:update ann join`, …"""
        return [_brief(frame) for frame in self.news()]

    def answer(self, ref: Ref) -> dict[str, Any]:
        """The one answer to this request, whenever it was told."""
        (frame,) = [frame for frame in self.told if frame.get("ref") == ref and frame["event"] in ("reply", "error")]
        return frame

    def heard(self) -> list[int]:
        """The numbers of the messages it was told."""
        return [frame["data"]["message"]["seq"] for frame in self.told if frame["event"] == "message:new"]


def _brief(frame: dict[str, Any]) -> str:
    event, data = frame["event"], frame["data"]
    if event == "reply":
        return f"reply {frame['ref']}"
    if event == "error":
        return f"error {frame['ref']} {data['code']}"
    if event == "message:new":
        return f"{event} {data['message']['seq']}"
    if event == "users:update":
        return f"{event} {data['user']['username']} {data['action']}"
    if event == "typing:indicator":
        return f"{event} {data['username']} {'on' if data['isTyping'] else 'off'}"
    return str(event)
