"""The log: one event a line on stderr, as JSON for machines or in colour for a person.

    log = get_logger("brewd.cafe")
    log.info("café passivated", cafe_id=cafe_id, idle_s=300)

Event names are sentences that stay the same; what varies goes into fields. Never log a message's text, a token, or a
patron's key. Fields bound with `structlog.contextvars` (an incident id, say) appear on every line of that task.
Libraries that log through the standard library end up in the same stream. Logging is for rare things: it writes at once.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, Literal, TextIO

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

LEVELS: Final = ("debug", "info", "warning", "error", "critical")

_CHATTY: Final = ("asyncio", "hypercorn.access")
"""Standard-library loggers whose lines below a warning say nothing about brewd."""


def configure(*, format: Literal["json", "console"], level: str, stream: TextIO | None = None) -> None:
    """Set up logging for the whole process. `stream` is stderr unless given. Raises `ValueError` for an unknown level."""
    sink = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
    ]
    if format == "json":
        shared += [structlog.processors.format_exc_info, _render_json]
    else:
        shared.append(structlog.dev.ConsoleRenderer(colors=sink.isatty(), timestamp_key="at", exception_formatter=structlog.dev.plain_traceback))
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
        logger_factory=structlog.WriteLoggerFactory(sink),
        cache_logger_on_first_use=False,  # so that `set_level` reaches loggers that were made before
    )
    root = logging.getLogger()
    root.handlers[:] = [_Forward()]
    root.setLevel(_number(level))
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(_number(level), logging.WARNING))


def set_level(level: str) -> None:
    """Change the level of every logger, now. Raises `ValueError` for an unknown level."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(_number(level)))
    logging.getLogger().setLevel(_number(level))
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(_number(level), logging.WARNING))


def get_logger(name: str, **fields: Any) -> FilteringBoundLogger:
    """A logger whose lines carry `source=name` and `fields`."""
    logger: FilteringBoundLogger = structlog.get_logger(source=name, **fields)
    return logger


def _number(level: str) -> int:
    if level not in LEVELS:
        raise ValueError(f"unknown log level {level!r}: one of {', '.join(LEVELS)}")
    return logging.getLevelNamesMapping()[level.upper()]


def _render_json(_logger: Any, _method: str, event: Any) -> str:
    ordered = {"at": event.pop("at", None), "level": event.pop("level", None), "event": event.pop("event", None), **event}
    return orjson.dumps(ordered, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


class _Forward(logging.Handler):
    """Hands what libraries log through the standard library over to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            exc_info = record.exc_info if record.exc_info and record.exc_info[0] is not None else None
            fields: dict[str, Any] = {} if exc_info is None else {"exc_info": exc_info}
            get_logger(record.name).log(record.levelno, record.getMessage(), **fields)
        except Exception:  # what a library logs must never become an error of brewd
            self.handleError(record)
