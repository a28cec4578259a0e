"""YAML into frozen dataclasses, with every mistake named at once.

A dataclass is its own schema: its annotations say what is allowed, its defaults what may be left out, and its
``__post_init__`` may raise ``ValueError("what was found; what is allowed")`` for what types cannot say. The loader
walks the whole document, collects every fault with its path, and raises one ``ConfigError``:

    2 mistakes in the configuration:
      demo.yaml: $.dedup.minhash.ngam: no such setting; did you mean 'ngram'? Allowed: ngram, threshold
      demo.yaml: $.seed: found 'x' (text); allowed: a whole number

YAML is read with the booleans and numbers of YAML 1.2: ``no`` is text (Norwegian), ``1e-3`` is a number, dates are
text. Tags that make objects are refused, and so is a key given twice.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

import yaml

from filters.errors import ConfigError

T = TypeVar("T")
Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_BINARY = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "b": 1}

Count = Annotated[int, "a count such as 30000, 30k or 20M"]
Size = Annotated[int, "a size such as 64MB or 1GiB"]

MAX_CONFIG_BYTES = 4 << 20
_MAX_DEPTH = 32


class _Yaml12(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 scalars, and an error for repeated keys."""


_Yaml12.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9]+$|^0x[0-9a-fA-F]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$", "-+.0123456789"),
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN"),
):
    _Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))
_Yaml12.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^$"), [""])


def _mapping(loader: _Yaml12, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: dict[Hashable, int] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is given twice (first on line {seen[key]})", key_node.start_mark
            )
        seen[key] = line
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


def _integer(loader: _Yaml12, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 16 if text.lower().startswith("0x") else 10)


_Yaml12.add_constructor("tag:yaml.org,2002:map", _mapping)
_Yaml12.add_constructor("tag:yaml.org,2002:int", _integer)


def parse_yaml(text: str, where: str) -> Any:
    """The plain values of a YAML document; ``ConfigError`` with the line for anything else."""
    try:
        return yaml.load(text, Loader=_Yaml12)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        line = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the document"
        raise ConfigError(f"{where}: {line}: not readable as YAML: {problem}. Correct that line.") from None
    except RecursionError:
        raise ConfigError(f"{where}: nested too deeply; allowed: {_MAX_DEPTH} levels.") from None


def load_config(path: str | Path, cls: type[T]) -> T:
    """The configuration file as a value of ``cls``.

    Raises:
        ConfigError: with all mistakes of the file, each with its path and the nearest allowed name.
    """
    path = Path(path)
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], n=1)
        hint = f"; did you mean '{path.parent / near[0]}'?" if near else ". Give the path of a YAML file."
        raise ConfigError(f"{path}: no such file{hint}")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES >> 20} MiB, which no configuration is.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from None
    return from_mapping(cls, parse_yaml(text, path.name), where=f"{path.name}: $")


def from_mapping(cls: type[T], mapping: Any, *, where: str = "$") -> T:
    """A value of the dataclass ``cls`` from plain dicts, lists and scalars.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Pack: length: int = 512
    >>> from_mapping(Pack, {"length": 1024})
    Pack(length=1024)
    """
    faults: list[str] = []
    value = _convert(mapping, cls, where, faults, 0)
    if faults:
        raise ConfigError(faults)
    return typing.cast(T, value)


def to_mapping(value: Any) -> Any:
    """The inverse of ``from_mapping``: plain JSON-able values, every default written out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_mapping(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_mapping(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [to_mapping(v) for v in value]
    return value


def show_config(value: Any) -> str:
    """The configuration as YAML with every default visible, as ``--show-config`` prints it."""
    return yaml.safe_dump(to_mapping(value), sort_keys=False, allow_unicode=True, width=110)


def nearest(name: str, allowed: Sequence[str]) -> str:
    """``; did you mean 'x'?`` for the nearest allowed name, else nothing."""
    close = difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def _kind(value: Any) -> str:
    names = {bool: "true/false", int: "a whole number", float: "a number", str: "text", dict: "a mapping", list: "a list"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)


def _found(value: Any) -> str:
    if value is None:
        return "found nothing"
    text = repr(value)
    return f"found {text if len(text) <= 60 else text[:57] + '...'} ({_kind(value)})"


def _allowed(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return str(arguments[1])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_allowed(a) for a in arguments))
    if origin is Literal:
        return ", ".join(repr(a) for a in arguments)
    if origin is tuple:
        return f"a list of {_allowed(arguments[0])}"
    if origin is dict:
        return f"a mapping of names to {_allowed(arguments[1])}"
    if hint is type(None):
        return "nothing (null)"
    if dataclasses.is_dataclass(hint):
        return "a mapping with " + ", ".join(f.name for f in dataclasses.fields(hint))
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(hint, str(hint))


def _parse_units(text: str, units: Mapping[str, int]) -> int | None:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", text.strip())
    if not match or match[2].lower() not in units:
        return None
    number = float(match[1]) * units[match[2].lower()]
    return int(number) if number == int(number) else None


def _convert(value: Any, hint: Any, where: str, faults: list[str], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        faults.append(f"{where}: nested too deeply; allowed: {_MAX_DEPTH} levels.")
        return None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, hint, where, faults, depth)
    if dataclasses.is_dataclass(hint):
        return _convert_dataclass(value, hint, where, faults, depth)
    if origin is Annotated and arguments[0] is int:
        units = _BINARY if arguments[1] == Size.__metadata__[0] else _UNITS  # type: ignore[attr-defined]
        number = _parse_units(value, units) if isinstance(value, str) else value
        if isinstance(number, int) and not isinstance(number, bool) and number >= 0:
            return number
    elif origin is Literal:
        if any(value == a and type(value) is type(a) for a in arguments):
            return value
        hint_text = nearest(value, [str(a) for a in arguments]) if isinstance(value, str) else ""
        faults.append(f"{where}: {_found(value)}{hint_text} Allowed: {_allowed(hint)}.")
        return None
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(_convert(v, arguments[0], f"{where}[{i}]", faults, depth + 1) for i, v in enumerate(value))
    elif origin is dict:
        if isinstance(value, Mapping):
            converted = {}
            for key, entry in value.items():
                name = int(key) if arguments[0] is int and isinstance(key, str) and key.isdecimal() else key
                if type(name) is not arguments[0]:
                    remedy = "put it in quotes" if arguments[0] is str else "write a whole number"
                    faults.append(f"{where}: the name {_found(key)[6:]} is not allowed here; {remedy}.")
                converted[name] = _convert(entry, arguments[1], f"{where}.{key}", faults, depth + 1)
            return converted
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif hint is type(None):
        if value is None:
            return None
    elif hint in (int, str, bool):
        if type(value) is hint:
            return value
    else:
        raise TypeError(f"{where}: the loader has no rule for the annotation {hint!r}")
    faults.append(f"{where}: {_found(value)}; allowed: {_allowed(hint)}.")
    return None


def _convert_union(value: Any, options: tuple[Any, ...], hint: Any, where: str, faults: list[str], depth: int) -> Any:
    """The first alternative that fits; for mappings, the dataclass that shares the most names with it."""
    if value is None and type(None) in options:
        return None
    if isinstance(value, Mapping):
        classes = [o for o in options if dataclasses.is_dataclass(o)]
        if classes:
            best = max(classes, key=lambda c: len({f.name for f in dataclasses.fields(c)} & set(value)))
            return _convert(value, best, where, faults, depth)
    for option in options:
        trial: list[str] = []
        converted = _convert(value, option, where, trial, depth)
        if not trial:
            return converted
    fitting = [o for o in options if typing.get_origin(o) is tuple and isinstance(value, list)]
    if fitting:
        return _convert(value, fitting[0], where, faults, depth)
    faults.append(f"{where}: {_found(value)}; allowed: {_allowed(hint)}.")
    return None


def _convert_dataclass(value: Any, cls: Any, where: str, faults: list[str], depth: int) -> Any:
    if isinstance(value, cls):
        return value
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    if value is None and not any(_is_required(f) for f in fields.values()):
        value = {}
    if not isinstance(value, Mapping):
        faults.append(f"{where}: {_found(value)}; allowed: {_allowed(cls)}.")
        return None
    hints = typing.get_type_hints(cls, include_extras=True)
    before = len(faults)
    for key in value:
        if key not in fields:
            near = nearest(key, list(fields)) or "."
            faults.append(f"{where}.{key}: no such setting{near} Allowed: {', '.join(fields)}.")
    arguments: dict[str, Any] = {}
    for name, field in fields.items():
        if name in value:
            arguments[name] = _convert(value[name], hints[name], f"{where}.{name}", faults, depth + 1)
        elif _is_required(field):
            faults.append(f"{where}.{name}: missing; required: {_allowed(hints[name])}.")
    if len(faults) > before:
        return None
    try:
        return cls(**arguments)
    except ValueError as error:
        faults.append(f"{where}: {error}")
        return None


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
