"""The examples in the contract are frames the server takes, and events as it tells them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from brewd.edge.http import calls, openapi
from brewd.edge.http.app import ENDPOINTS
from brewd.edge.ws import agent_frames, asyncapi, plain

SHAPES = calls.shapes(ENDPOINTS)
DOCUMENT = asyncapi.document("http://127.0.0.1:8080", SHAPES)
FRAMES = {kind.__struct_config__.tag: kind for kind in (*asyncapi.REPLIES, *agent_frames.REPLIES, *(shape.frame for shape in SHAPES))}
EVENTS = {kind.name: kind for kind in (*asyncapi._TOLD, *agent_frames.TOLD)}


def _messages(operation: str) -> list[dict[str, Any]]:
    keys = [message["$ref"].rpartition("/")[2] for message in DOCUMENT["operations"][operation]["messages"]]
    return [DOCUMENT["components"]["messages"][key] for key in keys]


@pytest.mark.parametrize("operation", ["clientSends", "clientSendsAgent"])
def test_each_frame_has_an_example_that_is_understood(operation: str) -> None:
    for message in _messages(operation):
        (example,) = message["examples"]
        assert isinstance(msgspec.convert(example["payload"], FRAMES[message["name"]]), FRAMES[message["name"]])


@pytest.mark.parametrize("operation", ["serverTells", "serverTellsAgent"])
def test_each_event_has_an_example_of_its_shape(operation: str) -> None:
    told = {message["name"]: message["examples"] for message in _messages(operation)}
    assert told.keys() >= {"connected", "reply", "error"}
    for name, examples in told.items():
        assert all(example["payload"]["event"] == name for example in examples)
        if name in EVENTS:
            msgspec.convert(examples[0]["payload"]["data"], EVENTS[name])


def test_each_body_has_an_example_that_fits_it() -> None:
    paths = openapi.document(ENDPOINTS, "http://127.0.0.1:8080")["paths"]
    with_body = [endpoint for endpoint in ENDPOINTS if endpoint.body is not None]
    for endpoint in with_body:
        operation = paths[endpoint.path.replace("<uuid:", "{").replace(">", "}")][endpoint.method.lower()]
        msgspec.convert(operation["requestBody"]["content"]["application/json"]["example"], endpoint.body)


def test_whoever_is_at_the_wrong_socket_is_told() -> None:
    with pytest.raises(plain.BadFrame, match="event: this event belongs to /ws/agent: 'query:stream'") as refused:
        plain.decode('{"event":"query:stream","ref":3,"data":{"query":"Hi?"}}', (), agent_frames.EVENTS)
    assert refused.value.ref == 3
    with pytest.raises(plain.BadFrame, match="there is no such event on /ws; /docs lists those there are: 'query'"):
        plain.decode('{"event":"query"}', (), agent_frames.EVENTS)
    with pytest.raises(plain.BadFrame, match=r"/ws/agent knows cafe:join, .*; the room is at /ws: 'message:send'"):
        agent_frames.decode('{"event":"message:send"}')


def test_what_is_no_id_is_told_how_one_looks() -> None:
    for decode, event, name in ((plain.decode, "message:delete", "messageId"), (agent_frames.decode, "query:cancel", "queryId")):
        with pytest.raises(plain.BadFrame) as refused:
            decode(f'{{"event":"{event}","data":{{"{name}":"7"}}}}')
        (error,) = refused.value.extras["errors"]
        assert error["path"] == f"data.{name}"
        assert error["detail"].startswith("Expected an id as the server gave it, like 0192f3a4-")
