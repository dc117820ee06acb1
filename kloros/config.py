"""One TOML file -> typed, frozen, strict settings; where the suite's files live.

Every refusal names the file, the key, what was found and what was expected.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from kloros.errors import ConfigError

SettingsT = TypeVar("SettingsT", bound="Settings")

_MOST_NESTED = 50
_PAST_INTEGERS = 1 << 63
_UNIT_SUFFIX = re.compile(r"_(us|ms|s|min|h|d|bytes|kib|mib|percent)$")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every settings section: frozen, and no key it does not know."""


def load(path: Path, shape: type[SettingsT]) -> SettingsT:
    """Read the TOML file `path` into `shape`; raises ConfigError naming file, key, found and expected."""
    return convert(read_toml(path), shape, path)


def load_or_default(path: Path, shape: type[SettingsT]) -> SettingsT:
    """As `load`; a file that is not there means the defaults of `shape`."""
    return load(path, shape) if path.exists() else convert({}, shape, path)


def read_toml(path: Path) -> dict[str, Any]:
    """The file's tables, not yet checked against a shape; raises ConfigError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(file=path, key="(file)", found="nothing there", expected="a TOML file") from None
    except OSError as error:
        found = error.strerror or str(error)
        raise ConfigError(file=path, key="(file)", found=found, expected="a readable file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(file=path, key="(file)", found=f"not UTF-8 ({error})", expected="TOML") from error
    except RecursionError:
        raise _too_deep(path, "(file)") from None
    except ValueError as error:  # also a number of more digits than Python reads
        raise ConfigError(file=path, key="(file)", found=f"text that is not TOML ({error})", expected="TOML") from error


def _too_deep(path: Path, key: str) -> ConfigError:
    return ConfigError(file=path, key=key, found="tables or lists nested too deeply", expected="a few levels")


def convert(tables: dict[str, Any], shape: type[SettingsT], path: Path) -> SettingsT:
    """Check `tables` against `shape`; `path` is only named in the error."""
    _refuse_odd(tables, path, "", 0)
    try:
        return msgspec.convert(tables, shape)
    except msgspec.ValidationError as error:
        raise _explain(error, tables, shape, path) from None


def _refuse_odd(value: Any, path: Path, key: str, depth: int) -> None:
    """Refuse what TOML can say and no setting means, and what could not even be shown in an error."""
    if depth > _MOST_NESTED:
        raise _too_deep(path, key)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(file=path, key=key, found=str(value), expected="a finite number")
    if isinstance(value, int) and not -_PAST_INTEGERS <= value < _PAST_INTEGERS:
        found = f"a whole number of {value.bit_length()} bits"
        raise ConfigError(file=path, key=key, found=found, expected="one of at most 63, as TOML has it")
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_odd(inner, path, f"{key}.{name}" if key else name, depth + 1)
    if isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_odd(inner, path, f"{key}[{index}]", depth + 1)


_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<where>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(?P<name>.*)`")
_MISSING = re.compile(r"missing required field `(?P<name>.*)`")
_EXPECTED = re.compile(r"Expected `(?P<expected>[^`]+)`(?P<limit> [^`]+?)?(?:, got `.*`)?$")


def _explain(error: msgspec.ValidationError, tables: dict[str, Any], shape: type[Settings], path: Path) -> ConfigError:
    parts = _AT.match(str(error))
    what = parts["what"] if parts else str(error)
    where = _real_key((parts["where"] or "$") if parts else "$", tables, shape)
    if unknown := _UNKNOWN.search(what):
        known = _fields_at(shape, where)
        return ConfigError(
            file=path,
            key=_join(where, unknown["name"]),
            found="a key that means nothing here",
            expected=_suggest(unknown["name"], known),
        )
    if missing := _MISSING.search(what):
        return ConfigError(file=path, key=_join(where, missing["name"]), found="nothing", expected="this key to be set")
    found = _describe(_value_at(tables, where))
    parsed = _EXPECTED.search(what)
    expected = _plain(parsed["expected"], parsed["limit"] or "", where) if parsed else what
    return ConfigError(file=path, key=where or "(file)", found=found, expected=expected)


_PLAIN_WORDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "text in quotes",
    "bool": "true or false",
    "object": "a table",
    "array": "a list",
}


def _suggest(name: str, known: list[str]) -> str:
    """What may stand here; a key of the same stem in another unit is named with its unit."""
    stem = _UNIT_SUFFIX.sub("", name)
    same_stem = [key for key in known if _UNIT_SUFFIX.sub("", key) == stem]
    close = same_stem or difflib.get_close_matches(name, known, n=1)
    return f"`{close[0]}`" if close else "one of " + ", ".join(f"`{key}`" for key in known)


def _plain(expected: str, limit: str, key: str) -> str:
    """limit: what msgspec says about the value besides its type, such as " > 0.0"."""
    plain = _PLAIN_WORDS.get(expected, expected)
    unit = _UNIT_SUFFIX.search(key) if expected in ("float", "int") else None
    in_unit = f" in {unit[1]}" if unit else ""
    return f"{plain}{limit}{in_unit}" if limit or not unit else f"{plain}{in_unit}, without quotes"


def _describe(value: object) -> str:
    return f"{value!r} ({type(value).__name__})" if value is not None else "nothing"


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _real_key(error: str, tables: dict[str, Any], shape: type[Settings]) -> str:
    """The key an error speaks of. msgspec writes `$.entries[...].interval_s` for a member of a table with free names:
    the member is the one that still fails when it stands alone."""
    where = error.removeprefix("$").removeprefix(".")
    table, is_member, rest = where.partition("[...]")
    if not is_member:
        return where
    for name, member in _value_at(tables, table).items():
        try:
            msgspec.convert(_with_only(tables, table, {name: member}), shape)
        except msgspec.ValidationError:
            return f"{table}.{name}{rest}"
    return where


def _with_only(tables: dict[str, Any], where: str, member: dict[str, Any]) -> dict[str, Any]:
    head, _, tail = where.partition(".")
    return {**tables, head: _with_only(tables[head], tail, member) if tail else member}


def _value_at(tables: Any, where: str) -> Any:
    value = tables
    for part in re.findall(r"[^.\[\]]+", where):
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return None
    return value


def _fields_at(shape: Any, where: str) -> list[str]:
    """The keys that the settings at `where` know."""
    for part in re.findall(r"[^.\[\]]+", where):
        shape = _member_type(shape, part)
    return list(shape.__struct_fields__) if _is_settings(shape) else []


def _member_type(shape: Any, part: str) -> Any:
    """The type behind one key: a field of settings, or what a table or list holds."""
    inner = get_type_hints(shape).get(part) if _is_settings(shape) else next(iter(get_args(shape)[::-1]), None)
    choices = [choice for choice in get_args(inner) if choice is not type(None)]
    is_optional = type(None) in get_args(inner)
    return choices[0] if is_optional and choices else inner


def _is_settings(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, msgspec.Struct)
