"""brewd's HTTP API as methods. Answers are structs, refusals raise `Rejected`, silence raises `Unreachable` after a deadline.

Cancelling a call is safe, and as with any network call it does not say whether the server had acted.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec
import trio

from brewd.client.failures import Unreachable, rejected
from brewd.client.shapes import Grant, Health, Message, Page, Presence, Receipt, StaffLogin, Topics, User
from brewd.errors import Rejected

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")
ANSWER_MAX_BYTES: Final = 8 << 20


class _UserAnswer(msgspec.Struct):
    user: User


class _MessageAnswer(msgspec.Struct):
    message: Message


class Client:
    """One server's HTTP API: `async with Client("https://brew.example") as api`. `token`: the default bearer token of its calls."""

    def __init__(self, base_url: str, *, token: str | None = None, timeout_s: float = 10.0) -> None:
        self.base_url: Final = plain_url(base_url)
        self.token = token
        self._timeout_s = timeout_s
        self._http: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        import httpx2  # 60 ms that `brewd --help` must not pay

        # The WebSocket goes straight to the server, and both must reach the same one: no proxy from the environment.
        self._http = httpx2.AsyncClient(base_url=self.base_url, timeout=None, trust_env=False)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._http is not None:
            with trio.CancelScope(deadline=trio.current_time() + 1.0, shield=True):
                await self._http.aclose()
            self._http = None

    async def health(self) -> Health:
        return await self.ask("GET", "/api/health", Health)

    async def staff_login(self, *, cafe_id: str, name: str, password: str) -> StaffLogin:
        return await self.ask("POST", "/api/auth/staff/login", StaffLogin, body={"cafeId": cafe_id, "name": name, "password": password})

    async def receipt(self, *, cafe_id: str, receipt_id: str, items: list[dict[str, Any]] | None = None, token: str | None = None) -> Receipt:
        """A throw-away name and join code for one printed receipt (baristas)."""
        body = {"cafeId": cafe_id, "receiptId": receipt_id} | ({} if items is None else {"items": items})
        return await self.ask("POST", "/api/auth/barista/generate-username", Receipt, body=body, token=token)

    async def join(
        self,
        *,
        cafe_id: str,
        username: str,
        join_token: str,
        wifi_ssid: str | None = None,
        latitude: float | None = None,
        longitude: float | None = None,
        patron_key: str | None = None,
    ) -> Grant:
        """Turn a receipt into a session. Works once per receipt."""
        body = {
            "cafeId": cafe_id,
            "username": username,
            "joinToken": join_token,
            "wifiSsid": wifi_ssid,
            "latitude": latitude,
            "longitude": longitude,
            "patronKey": patron_key,
        }
        return await self.ask("POST", "/api/auth/join", Grant, body={key: value for key, value in body.items() if value is not None})

    async def refresh(self, refresh_token: str) -> Grant:
        """A new pair of tokens. The old refresh token must not be used again: the server takes that for theft and ends the session."""
        return await self.ask("POST", "/api/auth/refresh", Grant, body={"refreshToken": refresh_token})

    async def logout(self, *, token: str | None = None) -> None:
        await self.ask("POST", "/api/auth/logout", type(None), token=token)

    async def me(self, *, token: str | None = None) -> User:
        return (await self.ask("GET", "/api/users/me", _UserAnswer, token=token)).user

    async def history(self, cafe_id: str, *, limit: int = 50, before: int | None = None, since: int | None = None, token: str | None = None) -> Page:
        """Up to `limit` (at most 100) messages, ascending: the last ones, those before a `seq`, or the first ones after one."""
        query = {"limit": limit, "before": before, "since": since}
        return await self.ask("GET", f"/api/chat/messages/{quote(cafe_id, safe='')}", Page, query=query, token=token)

    async def delete_message(self, message_id: str, *, token: str | None = None) -> Message:
        return (await self.ask("DELETE", f"/api/chat/messages/{quote(message_id, safe='')}", _MessageAnswer, token=token)).message

    async def presence(self, cafe_id: str, *, token: str | None = None) -> Presence:
        return await self.ask("GET", f"/api/chat/presence/{quote(cafe_id, safe='')}", Presence, token=token)

    async def topics(self, cafe_id: str, *, limit: int = 20, token: str | None = None) -> Topics:
        return await self.ask("GET", f"/api/chat/topics/{quote(cafe_id, safe='')}", Topics, query={"limit": limit}, token=token)

    async def ask(
        self,
        method: str,
        path: str,
        shape: type[T],
        *,
        body: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
        token: str | None = None,
    ) -> T:
        """One request of any kind, the answer decoded into `shape` (`type(None)` for an empty one). Raises `Rejected` or `Unreachable`."""
        import httpx2

        assert self._http is not None, "use the client in `async with`"
        bearer = token or self.token
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        params = {key: value for key, value in (query or {}).items() if value is not None}
        try:
            with trio.fail_after(self._timeout_s):
                response = await self._http.request(method, path, json=body, params=params, headers=headers)
        except trio.TooSlowError:
            raise Unreachable(f"no answer from {self.base_url} within {self._timeout_s:g} s") from None
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise Unreachable(f"{self.base_url}: {error}") from error
        if response.status_code >= 400:
            raise _refusal(response)
        try:
            return msgspec.json.decode(response.content or b"null", type=shape)
        except msgspec.DecodeError as error:
            raise Unreachable(f"{method} {path}: the answer is not what the API promises: {error}") from error


def plain_url(url: str) -> str:
    """The server's address as http(s), without a trailing slash: `ws://host` and `http://host/` are the same server."""
    parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{url!r} is not an address of a server; write http://host:port or https://host")
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def _refusal(response: httpx2.Response) -> Rejected:
    """The problem document of an error answer, or its status when something between here and brewd answered."""
    try:
        problem = msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.DecodeError:
        problem = {}
    wait = response.headers.get("retry-after", "")
    if "retryAfterMs" not in problem and wait.isdecimal():
        problem["retryAfterMs"] = int(wait) * 1000
    detail = problem.get("detail") or f"HTTP {response.status_code}"
    return rejected({"code": _CODES.get(response.status_code, "internal" if response.status_code >= 500 else "invalid_request")} | problem | {"detail": detail})


_CODES: Final = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    413: "payload_too_large",
    429: "rate_limited",
    503: "cafe_unavailable",
}
