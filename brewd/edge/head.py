"""The head of an HTTP/1.1 request, read once to tell a WebSocket upgrade from everything else.

Only upgrades are served from what is parsed here; any other request is handed on with its bytes untouched. `read_head` bounds
the head in bytes; the caller bounds it in time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

HEAD_MAX_BYTES = 16_384
_END = b"\r\n\r\n"


class BadHead(Exception):
    """Not a request head that can be served. `status` is the HTTP status to refuse it with."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Head(Struct, frozen=True):
    """`headers`: names in lower case; of a repeated one, the values joined by a comma."""

    method: str
    target: str
    headers: dict[str, str]
    raw: bytes
    rest: bytes

    @property
    def upgrades_to_websocket(self) -> bool:
        wanted = [option.strip() for option in self.headers.get("connection", "").lower().split(",")]
        return "upgrade" in wanted and self.headers.get("upgrade", "").lower() == "websocket"


async def read_head(receive: Callable[[], Awaitable[bytes]]) -> Head | None:
    """Read until the head is complete. None: the peer ended before it said anything. Raises `BadHead`."""
    data = b""
    while True:
        end = data.find(_END)
        if end >= 0:
            break
        if len(data) > HEAD_MAX_BYTES:
            raise BadHead(431, f"The request head is larger than {HEAD_MAX_BYTES} bytes.")
        more = await receive()
        if not more:
            if data.strip():
                raise BadHead(400, "The request head is incomplete.")
            return None
        data += more
    if end > HEAD_MAX_BYTES:
        raise BadHead(431, f"The request head is larger than {HEAD_MAX_BYTES} bytes.")
    return _parse(data, end)


def _parse(data: bytes, end: int) -> Head:
    text = data[:end].decode("latin-1")
    lines = text.split("\r\n")
    if text.count("\r") + text.count("\n") > 2 * (len(lines) - 1) or "\0" in text:
        raise BadHead(400, "A header has a control character in it.")  # others might read it as two (RFC 9110, section 5.5)
    request = lines[0].split(" ")
    if len(request) != 3 or not request[2].startswith("HTTP/1."):
        raise BadHead(400, "The request line is not HTTP/1.1.")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadHead(400, "A header line is malformed.")
        name = name.lower()
        value = value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    end += len(_END)
    return Head(request[0], request[1], headers, data[:end], data[end:])
