"""From TOML text and environment variables to one frozen struct, with every mistake found at once and placed on its line.

Knows nothing of brewd's keys: it walks whatever `Section` it is given. msgspec stops at the first error, so values are
converted key by key; the mistaken ones keep their default while the rest is checked, and all of it is reported together.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_origin

import msgspec
from msgspec.inspect import type_info
from msgspec.structs import FieldInfo, fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ENV_PREFIX: Final = "BREWD__"


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the config."""


class Inline(Section, frozen=True, kw_only=True):
    """A table that is written on one line: `{ cert = "", key = "" }`."""


class ConfigProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One mistake. `file` is a path or "environment"; `line` counts from 1, or is None; `nearest` is the key that may have been meant."""

    file: str
    line: int | None
    key: str
    message: str
    nearest: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{place}: {self.key}: {self.message}{hint}" if self.key else f"{place}: {self.message}{hint}"


class ConfigErrors(Exception):
    """Everything that is wrong with a config, one `ConfigProblem` each."""

    def __init__(self, problems: list[ConfigProblem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems: Final = problems


S = TypeVar("S", bound=Section)
Path_ = tuple[str, ...]
_Table = dict[str, Any]


def decode(
    kind: type[S],
    path: Path | None,
    env: Mapping[str, str],
    *,
    check: Callable[[S], Iterable[tuple[str, str]]] = lambda _: (),
    files: Iterable[str] = (),
) -> S:
    """`kind` filled from the TOML at `path`, then from `env`. `check` gives (key, sentence) for what a type cannot say.

    `files` names keys that hold paths: a relative one is taken relative to the config file, or to the working directory when it comes
    from the environment. Raises `ConfigErrors`.
    """
    reading = _Reading(kind, frozenset(files))
    if path is not None:
        reading.read_file(path)
    reading.read_env(env)
    reading.expand_home()
    config = msgspec.convert(reading.values, kind)
    reading.judge(check(config))
    if reading.problems:
        raise ConfigErrors(sorted(reading.problems, key=lambda problem: (problem.line is None, problem.line or 0)))
    return config


class _Reading:
    """One run of `decode`: the values so far (defaults first), where each came from, and what is wrong."""

    def __init__(self, kind: type[Section], files: frozenset[str]) -> None:
        self.kind = kind
        self.files = files
        self.values: _Table = msgspec.to_builtins(kind())
        self.problems: list[ConfigProblem] = []
        self._origins: dict[Path_, tuple[str, int | None]] = {}
        self._bad: set[Path_] = set()
        self._file = "defaults"
        self._base = Path.cwd()

    def read_file(self, path: Path) -> None:
        self._file = str(path)
        self._base = path.absolute().parent
        try:
            text = path.read_text(encoding="utf-8")
            table = tomllib.loads(text)
        except OSError as error:
            raise ConfigErrors([ConfigProblem(file=self._file, line=None, key="", message=f"cannot be read: {error.strerror or error}")]) from error
        except UnicodeDecodeError as error:
            raise ConfigErrors([ConfigProblem(file=self._file, line=None, key="", message="is not UTF-8 text")]) from error
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"^(.*) \(at line (\d+), column \d+\)$", str(error))
            line = int(found[2]) if found else text.count("\n") + 1
            message = f"is not TOML: {(found[1] if found else str(error).removesuffix(' (at end of document)')).lower()}"
            raise ConfigErrors([ConfigProblem(file=self._file, line=line, key="", message=message)]) from error
        self._origins.update({key: (self._file, line) for key, line in locate(text).items()})
        self._take(self.kind, self.values, table, ())

    def read_env(self, env: Mapping[str, str]) -> None:
        self._base = Path.cwd()
        for name in sorted(env):
            if not name.startswith(ENV_PREFIX):
                continue
            path = tuple(name.removeprefix(ENV_PREFIX).lower().split("__"))
            self._origins[path] = (name, None)
            value: Any = _env_value(self.kind, path, env[name])
            for part in reversed(path):
                value = {part: value}
            self._take(self.kind, self.values, value, ())

    def expand_home(self) -> None:
        """A default such as ~/.local/share/brewd, which no file and no variable has replaced."""
        for key in self.files:
            *tables, name = key.split(".")
            table = self.values
            for part in tables:
                table = table[part]
            if table[name]:
                table[name] = str(Path(table[name]).expanduser())

    def judge(self, findings: Iterable[tuple[str, str]]) -> None:
        """Adds what the checks found, but nothing about a key that is known to be wrong: it holds a default by now."""
        for key, message in findings:
            path = tuple(key.split("."))
            if not any(path[: len(bad)] == bad[: len(path)] for bad in self._bad):
                self._add(path, message)

    def _take(self, kind: Any, into: _Table, table: Any, at: Path_) -> None:
        """Lays `table` over `into`, which holds the values of a struct of type `kind`."""
        if not isinstance(table, dict):
            self._wrong(at, f"must be a table, not {_shown(table)}")
            return
        known = {field.encode_name: field for field in fields(kind)}
        for name, value in table.items():
            path = (*at, name)
            if name not in known:
                self._wrong(path, "unknown key", nearest=_nearest(self.kind, path, list(known)))
                continue
            inner = _struct_in(known[name].type)
            if inner is None:
                self._leaf(known[name], into, value, path)
            elif get_origin(_bare(known[name].type)) is dict:
                self._named(inner, into[name], value, path)
            else:
                self._take(inner, into[name], value, path)

    def _named(self, kind: Any, into: _Table, table: Any, at: Path_) -> None:
        """A table of tables whose names are free, such as the profiles: a new name starts from the type's defaults."""
        if not isinstance(table, dict):
            self._wrong(at, f"must be a table, not {_shown(table)}")
            return
        for name, value in table.items():
            into.setdefault(name, msgspec.to_builtins(kind()))
            self._take(kind, into[name], value, (*at, name))

    def _leaf(self, field: FieldInfo, into: _Table, value: Any, path: Path_) -> None:
        try:
            if isinstance(value, float) and value - value != 0:
                raise msgspec.ValidationError("not finite")
            converted = msgspec.convert(value, field.type)
        except msgspec.ValidationError:
            self._wrong(path, f"must be {_expected(field.type)}, not {_shown(value)}")
            return
        if ".".join(path) in self.files and converted:
            converted = str(self._base / Path(converted).expanduser())  # an absolute path stays as it is
        into[field.encode_name] = converted

    def _wrong(self, path: Path_, message: str, nearest: str | None = None) -> None:
        self._bad.add(path)
        self._add(path, message, nearest)

    def _add(self, path: Path_, message: str, nearest: str | None = None) -> None:
        file, line = next((self._origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self._origins), (self._file, None))
        key = ".".join(path)
        if file.startswith(ENV_PREFIX):
            nearest = ENV_PREFIX + nearest.upper().replace(".", "__") if nearest else None
            file, key = "environment", ENV_PREFIX + key.upper().replace(".", "__")
        self.problems.append(ConfigProblem(file=file, line=line, key=key, message=message, nearest=nearest))


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if hasattr(kind, "__metadata__") else kind


def _struct_in(kind: Any) -> Any:
    """The struct a field holds, directly or as the values of a dict; None for a leaf."""
    bare = _bare(kind)
    if get_origin(bare) is dict:
        bare = get_args(bare)[1]
    return bare if isinstance(bare, type) and issubclass(bare, Section) else None


def _env_value(kind: Any, path: Path_, text: str) -> Any:
    """A variable's text as the TOML value it looks like; plain text where text (or a list of it) is wanted."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        value = text
    wanted = _bare(_type_at(kind, path))
    if wanted is str and not isinstance(value, str):
        return text
    if get_origin(wanted) is list and isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _type_at(kind: Any, path: Path_) -> Any:
    """The type of the key at `path`, or None when there is no such key."""
    for part in path:
        bare = _bare(kind)
        if get_origin(bare) is dict:
            kind = get_args(bare)[1]
        elif isinstance(bare, type) and issubclass(bare, Section):
            kind = next((field.type for field in fields(bare) if field.encode_name == part), None)
        else:
            return None
    return kind


def _nearest(kind: Any, path: Path_, siblings: list[str]) -> str | None:
    """The key that was probably meant: one spelled alike in the same table, else the same name in another one."""
    for name in difflib.get_close_matches(path[-1], siblings, n=1):
        return ".".join((*path[:-1], name))
    everywhere = _all_keys(kind, ())
    for full in everywhere:
        if full[-1] == path[-1]:
            return ".".join(full)
    for name in difflib.get_close_matches(path[-1], [full[-1] for full in everywhere], n=1, cutoff=0.75):
        return ".".join(next(full for full in everywhere if full[-1] == name))
    return None


def _all_keys(kind: Any, at: Path_) -> list[Path_]:
    found: list[Path_] = []
    for field in fields(kind):
        path = (*at, field.encode_name)
        found.append(path)
        inner = _struct_in(field.type)
        if inner is not None and get_origin(_bare(field.type)) is not dict:
            found += _all_keys(inner, path)
    return found


def _expected(kind: Any) -> str:
    """What a leaf takes, in words: `a whole number of at least 1`."""
    info = type_info(kind)
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    match info:
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            noun = "a whole number" if isinstance(info, msgspec.inspect.IntType) else "a number"
            if info.ge is not None and info.le is not None:
                return f"{noun} from {info.ge:.15g} to {info.le:.15g}"
            if info.gt is not None:
                return f"{noun} above {info.gt:g}"
            return noun if info.ge is None else f"{noun} of at least {info.ge:g}"
        case msgspec.inspect.StrType():
            return "text in quotes, not empty" if info.min_length else "text in quotes"
        case msgspec.inspect.LiteralType():
            return "one of " + ", ".join(f'"{value}"' for value in info.values)
        case msgspec.inspect.ListType():
            return 'a list of texts, like ["one", "two"]'
    return "true or false" if isinstance(info, msgspec.inspect.BoolType) else "something else"


def _shown(value: Any) -> str:
    text = _toml(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}"
        case str():
            return '"' + re.sub(r'["\\\x00-\x1f\x7f]', lambda c: "\\" + c[0] if c[0] in '"\\' else f"\\u{ord(c[0]):04x}", value) + '"'
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case dict():
            return "{ " + ", ".join(f"{_key(name)} = {_toml(item)}" for name, item in value.items()) + " }" if value else "{}"
        case msgspec.Struct():
            return _toml(msgspec.structs.asdict(value))
    return str(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def render(config: Section, at: str = "") -> str:
    """`config` as TOML with each key's description behind it; `[section]` headers for tables, inline tables on one line."""
    lines: list[tuple[str, str]] = []
    tables: list[tuple[str, Section]] = []
    for field in fields(config):
        value = getattr(config, field.name)
        path = f"{at}.{field.name}" if at else field.name
        if isinstance(value, dict) and not issubclass(_struct_in(field.type), Inline):
            tables += [(f"{path}.{_key(name)}", item) for name, item in value.items()]
        elif isinstance(value, Section) and not isinstance(value, Inline):
            tables.append((path, value))
        else:
            metas = getattr(field.type, "__metadata__", ())
            lines.append((f"{field.name} = {_toml(value)}", next((meta.description for meta in reversed(metas) if meta.description), "")))
    width = max((len(text) for text, _ in lines if len(text) <= 60), default=0)
    body = "".join(f"{text.ljust(width)}  # {note}\n" if note else f"{text}\n" for text, note in lines)
    head = f"\n[{at}]\n" if lines else ""
    return (head if at else "") + body + "".join(render(section, path) for path, section in tables)


_TOKEN: Final = re.compile(
    r"""\#[^\n]* | \"{3}(?:\\.|[^\\])*?\"{3,5} | '{3}.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*' | [\w+:-]+ | [\n\[\]{}=,.]""",
    re.VERBOSE | re.DOTALL,
)


def locate(text: str) -> dict[Path_, int]:
    """The line (from 1) of every table header and key in `text`, which is valid TOML; tomllib does not say."""
    tokens = [(match[0], text.count("\n", 0, match.start()) + 1) for match in _TOKEN.finditer(text) if match[0][0] != "#"]
    tokens.append(("\n", tokens[-1][1] if tokens else 1))
    lines: dict[Path_, int] = {}
    table: Path_ = ()
    i = 0
    while i < len(tokens):
        found, line = tokens[i]
        if found == "\n":
            i += 1
        elif found == "[":
            table, i = _dotted(tokens, i + 1, "]")
            lines[table] = line
        else:
            i = _pair(tokens, i, table, lines)
    return lines


_Tokens = list[tuple[str, int]]


def _dotted(tokens: _Tokens, i: int, end: str) -> tuple[Path_, int]:
    """The key that ends with the token `end`, and the index behind it. The second brackets of `[[x]]` count for nothing."""
    parts: list[str] = []
    while tokens[i][0] != end:
        token = tokens[i][0]
        if token not in (".", "["):
            parts.append(tomllib.loads(f"text = {token}")["text"] if token[0] in "\"'" else token)
        i += 1
    i += 1
    return tuple(parts), i + 1 if end == "]" and tokens[i][0] == "]" else i


def _pair(tokens: _Tokens, i: int, table: Path_, lines: dict[Path_, int]) -> int:
    """Notes the `key = value` at `i`, and the keys of inline tables inside it; returns the index behind it."""
    key, j = _dotted(tokens, i, "=")
    path = (*table, *key)
    lines[path] = tokens[i][1]
    if tokens[j][0] == "{":
        j += 1
        while tokens[j][0] != "}":
            j = j + 1 if tokens[j][0] in (",", "\n") else _pair(tokens, j, path, lines)
        return j + 1
    depth = 0
    while depth or tokens[j][0] not in ("\n", ",", "}"):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(tokens[j][0], 0)
        j += 1
    return j
