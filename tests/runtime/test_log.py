"""One stream, one object a line, and a level that can change while it runs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from brewd.runtime.log import configure, get_logger, set_level


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes; everything global is put back afterwards."""
    root = logging.getLogger()
    before = (structlog.get_config(), root.handlers[:], root.level)
    yield io.StringIO()
    structlog.reset_defaults()
    structlog.configure(**before[0])
    root.handlers[:] = before[1]
    root.setLevel(before[2])


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_the_fixed_fields_first(stream: io.StringIO) -> None:
    configure(format="json", level="info", stream=stream)
    get_logger("brewd.cafe", cafe_id="c1").info("café passivated", idle_s=300)
    (line,) = lines(stream)
    assert list(line)[:3] == ["at", "level", "event"]
    assert line | {"at": ""} == {"at": "", "level": "info", "event": "café passivated", "source": "brewd.cafe", "cafe_id": "c1", "idle_s": 300}
    assert line["at"].endswith("Z")


def test_the_level_changes_for_loggers_that_exist(stream: io.StringIO) -> None:
    configure(format="json", level="info", stream=stream)
    log = get_logger("brewd")
    log.debug("not seen")
    set_level("debug")
    log.debug("seen")
    set_level("error")
    log.warning("not seen either")
    assert [line["event"] for line in lines(stream)] == ["seen"]


@pytest.mark.parametrize("level", ["", "INFO", "verbose"])
def test_an_unknown_level_is_refused_by_name(stream: io.StringIO, level: str) -> None:
    with pytest.raises(ValueError, match="debug, info, warning"):
        configure(format="json", level=level, stream=stream)
    with pytest.raises(ValueError, match="debug, info, warning"):
        set_level(level)


def test_an_exception_shows_its_trace_on_the_same_line_and_no_local_variables(stream: io.StringIO) -> None:
    configure(format="json", level="info", stream=stream)
    secret = "".join(["hunter", "2"])
    try:
        assert secret
        raise LookupError("gone")
    except LookupError:
        get_logger("brewd").exception("a bug", incident="i1")
    (line,) = lines(stream)
    assert "LookupError: gone" in line["exception"]
    assert "hunter2" not in stream.getvalue()


def test_what_json_does_not_know_is_shown_and_never_an_error(stream: io.StringIO) -> None:
    configure(format="json", level="info", stream=stream)
    get_logger("brewd").info("odd", odd={1: {2}}, thing=LookupError("x"))
    (line,) = lines(stream)
    assert line["thing"] == "LookupError('x')"


def test_libraries_that_log_in_the_usual_way_share_the_stream(stream: io.StringIO) -> None:
    configure(format="json", level="info", stream=stream)
    try:
        raise OSError("no route")
    except OSError:
        logging.getLogger("hypercorn.error").error("failed %s", "twice", exc_info=True)
    logging.getLogger("asyncio").info("chatter")
    (line,) = lines(stream)
    assert (line["source"], line["level"], line["event"]) == ("hypercorn.error", "error", "failed twice")
    assert "no route" in line["exception"]


def test_a_line_of_a_library_that_cannot_be_formatted_hurts_nobody(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    configure(format="json", level="info", stream=stream)
    logging.getLogger("library").error("%d cups", "many")
    assert lines(stream) == []
    assert "cups" in capsys.readouterr().err


def test_context_fields_are_on_every_line(stream: io.StringIO) -> None:
    configure(format="json", level="info", stream=stream)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        get_logger("brewd").info("one")
    get_logger("brewd").info("two")
    assert [line.get("request_id") for line in lines(stream)] == ["r1", None]


def test_the_console_is_for_people(stream: io.StringIO) -> None:
    configure(format="console", level="info", stream=stream)
    get_logger("brewd").warning("careful", n=1)
    assert "careful" in stream.getvalue()
    assert "n=1" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()  # no colours where there is no terminal
