"""The control socket end to end: a real listener, real sockets, and the blocking client in a thread."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from brewd.edge.control.client import ControlClient, Refused, TimedOut, Unreachable
from brewd.edge.control.place import address_of
from brewd.edge.control.server import ControlServer, ControlSocketBusy, Method, Params, method
from brewd.edge.control.wire import LINE_MAX_BYTES
from brewd.errors import Rejected, StoreError
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Double(Params, frozen=True, kw_only=True):
    number_of_cups: int


async def double(params: Double) -> dict[str, int]:
    return {"cups": params.number_of_cups * 2}


async def nothing(_: Params) -> None:
    return None


async def refuse(_: Params) -> None:
    raise Rejected("not_found", "there is no such café", cafeId="x")


async def lose_store(_: Params) -> None:
    raise StoreError("connection refused")


async def break_down(_: Params) -> None:
    raise RuntimeError("a secret that must not travel")


async def hang(_: Params) -> None:
    await trio.sleep_forever()


async def big(_: Params) -> str:
    return "x" * (3 * LINE_MAX_BYTES)


METHODS: dict[str, Method] = {
    "double": method(Double, double),
    "nothing": method(Params, nothing),
    "refuse": method(Params, refuse),
    "lose_store": method(Params, lose_store),
    "break_down": method(Params, break_down),
    "hang": method(Params, hang, deadline_s=0.01),
    "big": method(Params, big),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


def server(methods: Mapping[str, Method] = METHODS, allowed_uids: frozenset[int] | None = None) -> ControlServer:
    return ControlServer(methods=methods, ids=Ids(Clock()), allowed_uids=allowed_uids)


async def with_client(path: Path, talk: Callable[[ControlClient], Any], served: ControlServer | None = None) -> Any:
    """What `talk` returns, run in a thread against a running server."""

    def run() -> Any:
        with ControlClient(path, timeout_s=5) as client:
            return talk(client)

    async with trio.open_nursery() as nursery:
        await nursery.start((served or server()).serve, path)
        try:
            return await trio.to_thread.run_sync(run)
        finally:
            nursery.cancel_scope.cancel()


def exchange(path: Path, *lines: bytes) -> list[dict[str, Any]]:
    """Raw lines in, the decoded answers out, until the server closes."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(5)
        with address_of(path) as address:
            raw.connect(address)
        raw.sendall(b"".join(lines))
        raw.shutdown(socket.SHUT_WR)
        received = b""
        while piece := raw.recv(65536):
            received += piece
    return [json.loads(line) for line in received.splitlines()]


async def with_lines(path: Path, *lines: bytes, served: ControlServer | None = None) -> list[dict[str, Any]]:
    async with trio.open_nursery() as nursery:
        await nursery.start((served or server()).serve, path)
        try:
            return await trio.to_thread.run_sync(exchange, path, *lines)
        finally:
            nursery.cancel_scope.cancel()


async def test_a_call_is_answered_with_its_result(path: Path) -> None:
    assert await with_client(path, lambda client: [client.call("double", numberOfCups=21), client.call("nothing"), client.call("double", numberOfCups=2)]) == [
        {"cups": 42},
        None,
        {"cups": 4},
    ]


async def test_an_answer_may_be_longer_than_a_request(path: Path) -> None:
    assert len(await with_client(path, lambda client: client.call("big"))) == 3 * LINE_MAX_BYTES


@pytest.mark.parametrize(
    ("name", "params", "code", "detail"),
    [
        ("refuse", {}, "not_found", "there is no such café"),
        ("lose_store", {}, "storage_unavailable", "a store does not answer: connection refused"),
        ("hang", {}, "timed_out", "hang did not finish within 0.01 s; it may have taken effect"),
        ("brew", {}, "not_found", "there is no method 'brew'"),
        ("double", {"numberOfCups": "two"}, "invalid_request", "numberOfCups: Expected `int`, got `str`"),
        ("double", {}, "invalid_request", "Object missing required field `numberOfCups`"),
        ("double", {"numberOfCups": 1, "sugar": 1}, "invalid_request", "Object contains unknown field `sugar`"),
        ("nothing", {"sugar": 1}, "invalid_request", "Object contains unknown field `sugar`"),
    ],
)
async def test_a_refusal_says_which_rule(path: Path, name: str, params: dict[str, Any], code: str, detail: str) -> None:
    def talk(client: ControlClient) -> tuple[str, str]:
        with pytest.raises(Refused) as caught:
            client.call(name, **params)
        assert client.call("double", numberOfCups=1) == {"cups": 2}  # the connection goes on
        return caught.value.code, caught.value.detail

    assert await with_client(path, talk) == (code, detail)


async def test_a_bug_is_answered_with_an_incident_and_nothing_else(path: Path) -> None:
    (answer,) = await with_lines(path, b'{"jsonrpc":"2.0","id":"a","method":"break_down"}\n')
    assert answer["id"] == "a"
    assert answer["error"]["code"] == -32603
    assert answer["error"]["data"]["code"] == "internal"
    assert answer["error"]["data"]["incident"] in answer["error"]["message"]
    assert "secret" not in json.dumps(answer)


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"nothing","params":' + b'{"a":' * 3000 + b"1" + b"}" * 3001, -32700),
        (b"[]", -32600),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"nothing"}', -32600),
        (b'{"jsonrpc":"2.0","id":[],"method":"nothing"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"nothing","parms":{}}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"gone"}', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"nothing","params":[1]}', -32602),
    ],
)
async def test_errors_carry_the_numbers_of_json_rpc(path: Path, line: bytes, number: int) -> None:
    bad, good = await with_lines(path, line + b"\n", b"\n", b'{"jsonrpc":"2.0","id":2,"method":"nothing"}\n')
    assert bad["error"]["code"] == number
    assert good == {"jsonrpc": "2.0", "id": 2, "result": None}


async def test_a_notification_is_carried_out_and_not_answered(path: Path) -> None:
    poured: list[int] = []

    async def pour(params: Double) -> None:
        poured.append(params.number_of_cups)

    line = b'{"jsonrpc":"2.0","method":"pour","params":{"numberOfCups":3}}\n'
    assert await with_lines(path, line, served=server({"pour": method(Double, pour)})) == []
    assert poured == [3]


async def test_a_line_that_does_not_end_is_refused(path: Path) -> None:
    (answer,) = await with_lines(path, b"x" * (LINE_MAX_BYTES + 1))
    assert answer["error"]["data"]["code"] == "payload_too_large"


async def test_another_user_is_refused_in_words(path: Path) -> None:
    served = server(allowed_uids=frozenset({os.getuid() + 1}))

    def talk(client: ControlClient) -> tuple[str, str]:
        with pytest.raises(Refused) as caught:
            client.call("nothing")
        return caught.value.code, caught.value.detail

    code, detail = await with_client(path, talk, served)
    assert code == "forbidden"
    assert f"user {os.getuid()} may not control this daemon" in detail


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("mode", [0o600, 0o666])
async def test_a_process_of_another_user_gets_nothing(path: Path, mode: int) -> None:
    """The mode stops it; and where somebody has loosened the mode, the credentials of the peer do."""
    script = f"""
import os, sys
sys.path.insert(0, {str(Path.cwd())!r})
from pathlib import Path
from brewd.edge.control.client import ControlClient, Denied, Refused
os.chdir({str(path.parent)!r})
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    ControlClient(Path("control.sock")).call("nothing")
except (Denied, Refused) as error:
    print(type(error).__name__)
"""
    path.parent.chmod(0o755)
    async with trio.open_nursery() as nursery:
        await nursery.start(server().serve, path)
        path.chmod(mode)
        done = await trio.run_process([sys.executable, "-c", script], capture_stdout=True)
        nursery.cancel_scope.cancel()
    assert done.stdout.decode().strip() == ("Denied" if mode == 0o600 else "Refused")


async def test_only_the_owner_may_open_the_socket_and_it_is_removed_at_the_end(path: Path) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(server().serve, path)
        assert path.stat().st_mode & 0o777 == 0o600
        assert [file.name for file in path.parent.iterdir()] == ["control.sock"]
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_a_socket_left_behind_by_a_killed_daemon_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    assert await with_client(path, lambda client: client.call("nothing")) is None


async def test_a_running_daemon_keeps_its_socket(path: Path) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(server().serve, path)
        with pytest.raises(ControlSocketBusy, match="another brewd answers"):
            await server().serve(path)
        assert await trio.to_thread.run_sync(exchange, path, b'{"jsonrpc":"2.0","id":1,"method":"nothing"}\n') == [{"jsonrpc": "2.0", "id": 1, "result": None}]
        nursery.cancel_scope.cancel()


async def test_a_file_in_the_way_is_not_deleted(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ControlSocketBusy, match="is no socket"):
        await server().serve(path)
    assert path.read_text() == "precious"


async def test_a_successor_keeps_its_socket_when_the_old_daemon_ends(path: Path) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(server().serve, path)
        path.unlink()
        async with trio.open_nursery() as successor:
            await successor.start(server().serve, path)
            nursery.cancel_scope.cancel()
            assert path.exists()
            successor.cancel_scope.cancel()


async def test_a_path_longer_than_the_kernel_takes_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100) / "control.sock"
    assert await with_client(deep, lambda client: client.call("nothing")) is None


def test_nobody_there_is_said_in_words(path: Path) -> None:
    with pytest.raises(Unreachable, match="does not exist"):
        ControlClient(path)
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with pytest.raises(Unreachable, match="left behind"):
        ControlClient(path)


def test_a_daemon_that_does_not_answer_is_given_up_on(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen(1)
        with ControlClient(path, timeout_s=0.05) as client, pytest.raises(TimedOut, match=r"within 0\.05 s"):
            client.call("nothing")


def test_a_daemon_that_dies_before_it_answers_is_unreachable(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dying:
        dying.bind(str(path))
        dying.listen(1)
        with ControlClient(path, timeout_s=5) as client:
            dying.accept()[0].close()
            with pytest.raises(Unreachable, match="before it answered nothing"):
                client.call("nothing")


def test_the_client_sees_the_process_end(path: Path) -> None:
    script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(1); print(flush=True); s.accept()[0].recv(1)"
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        daemon.stdout.readline()
        with ControlClient(path) as client:
            assert client.pid == daemon.pid
            assert not client.wait_for_end(0)
            daemon.kill()
            assert client.wait_for_end(5)
