"""From bytes to a checked struct: JSON bodies and query strings. Whatever is wrong is named by its path.

msgspec refuses wrong types, unknown fields, lone surrogates and bad UTF-8. What it lets through and Postgres would not is the
character NUL, which is looked for here once for all fields. Nesting as deep as a body may be long ends in an answer too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

import msgspec
from msgspec import inspect
from quart import Request
from werkzeug.exceptions import UnsupportedMediaType

from brewd.errors import Rejected

SIZE_MAX_BYTES: Final = 64 * 1024
TIMEOUT_S: Final = 10

_ECHO_MAX_CHARS: Final = 80
_AT: Final = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<path>[^`]*)`$", re.DOTALL)
_NAMED: Final = re.compile(r"^Object (?P<what>contains unknown|missing required) field `(?P<field>.*)`$", re.DOTALL)
_SENTENCES: Final = {"contains unknown": "unknown field", "missing required": "is required"}


def decoder(kind: type[Any]) -> Callable[[bytes], Any]:
    """A function from a body to a `kind`. It raises `Rejected` (`invalid_request`)."""
    decode = msgspec.json.Decoder(kind).decode

    def checked(body: bytes) -> Any:
        try:
            value = decode(body)
        except msgspec.ValidationError as error:
            _refuse_field(str(error), kind)
        except UnicodeDecodeError:
            _refuse("", "The body is not UTF-8.")
        except msgspec.DecodeError as error:
            _refuse("", f"The body is not JSON: {error}.")
        except RecursionError:
            _refuse("", "The body is nested too deeply.")
        if b"\\u0000" in body:
            _refuse_nul(msgspec.to_builtins(value))
        return value

    return checked


async def read(request: Request) -> bytes:
    """The whole body. Raises the HTTP exceptions for too large, too slow and not JSON."""
    kind = request.mimetype
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMediaType
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType
    return await request.get_data(cache=False, as_text=False, parse_form_data=False)


def query(request: Request, kind: type[Any]) -> Any:
    """The query string as a `kind`. Raises `Rejected` (`invalid_request`)."""
    given = request.args.to_dict(flat=False)
    for name, values in given.items():
        if len(values) > 1:
            _refuse(name[:_ECHO_MAX_CHARS], "must not be there twice")
    plain = {name: values[0] for name, values in given.items()}
    _refuse_nul(plain)
    try:
        return msgspec.convert(plain, kind, strict=False)
    except msgspec.ValidationError as error:
        _refuse_field(str(error), kind)


def _refuse_field(sentence: str, kind: type[Any]) -> NoReturn:
    """Raise for msgspec's words, which carry the path: ``Expected `int` - at `$.items[0].quantity` ``."""
    found = _AT.match(sentence)
    what, path = (found["what"], found["path"]) if found else (sentence, "")
    named = _NAMED.match(what)
    if named:
        what = _SENTENCES[named["what"]]
        path = f"{path}.{named['field']}" if path else named["field"]
    if what.startswith("Invalid enum value") and (choices := _choices(kind, path)):
        what = f"{what[:_ECHO_MAX_CHARS]}; it is one of {', '.join(choices)}"
    _refuse(path[:_ECHO_MAX_CHARS], what)


def _choices(kind: type[Any], name: str) -> list[str]:
    """What a field of `kind` may say, if that is a list of words."""
    info = inspect.type_info(kind)
    kinds = [field.type for field in info.fields if field.encode_name == name] if isinstance(info, inspect.StructType) else []
    one_of = [option for each in kinds for option in (each.types if isinstance(each, inspect.UnionType) else (each,))]
    return [str(value) for option in one_of if isinstance(option, inspect.LiteralType) for value in option.values]


def _refuse_nul(value: Any) -> None:
    for path, text in _strings(value, ""):
        if "\0" in text:
            _refuse(path, "must not contain the character NUL")


def _strings(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _strings(item, f"{path}[{index}]")


def _refuse(path: str, detail: str) -> NoReturn:
    sentence = f"{path}: {detail}" if path else detail
    raise Rejected("invalid_request", sentence, errors=[{"path": path, "detail": detail}])
