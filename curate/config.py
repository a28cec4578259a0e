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

import contextlib
import dataclasses
import difflib
import re
import reprlib
import types
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

import yaml

from filters.errors import ConfigError

T = TypeVar("T")
Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_BINARY = {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "b": 1,
}

Count = Annotated[int, "a count such as 30000, 30k or 20M"]
Size = Annotated[int, "a size such as 64MB or 1GiB"]

MAX_CONFIG_BYTES = 4 << 20
_MAX_DEPTH = 32


_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "null": (r"~|null|Null|NULL|", "~nN"),
}
"""The plain scalars of YAML 1.2's core schema, each with the letters that it can begin with; all else is text."""


class _Yaml12(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2, and an error for repeated keys."""


class _Dumper12(yaml.SafeDumper):
    """SafeDumper that also puts in quotes what only YAML 1.2 takes for a number."""


def _quote_breaks(dumper: _Dumper12, text: str) -> yaml.ScalarNode:
    style = (
        '"' if re.search("[\x85\u2028\u2029]", text) else None
    )  # line ends for PyYAML, unless they are escaped
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper12.add_representer(str, _quote_breaks)
_Yaml12.yaml_implicit_resolvers = {}
for _name, (_pattern, _letters) in _SCALARS.items():
    for _class in (_Yaml12, _Dumper12):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), list(_letters)
        )
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


def _scalar(loader: _Yaml12, node: yaml.ScalarNode) -> bool | int | float | None:
    """The value of a plain scalar; a tag that is written out may not fit its text."""
    kind, text = node.tag.rpartition(":")[2], loader.construct_scalar(node)
    if not re.fullmatch(_SCALARS[kind][0], text):
        raise yaml.constructor.ConstructorError(
            None, None, f"{reprlib.repr(text)} is no {kind}", node.start_mark
        )
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "float":
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if len(text) > 1000:  # Python refuses int() above 4,300 digits
        raise yaml.constructor.ConstructorError(
            None, None, f"a number of {len(text)} digits", node.start_mark
        )
    return int(text, 16 if text.startswith("0x") else 10)


def _text(loader: _Yaml12, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise yaml.constructor.ConstructorError(None, None, "half a surrogate pair", node.start_mark)
    return text


_Yaml12.yaml_constructors = {
    "tag:yaml.org,2002:map": _mapping,
    "tag:yaml.org,2002:seq": lambda loader, node: loader.construct_sequence(node, deep=True),
    "tag:yaml.org,2002:str": _text,
    **{f"tag:yaml.org,2002:{_name}": _scalar for _name in _SCALARS},
    None: yaml.SafeLoader.construct_undefined,  # dates, bytes, sets, objects
}


def parse_yaml(text: str, where: str) -> Any:
    """The plain values of a YAML document; ``ConfigError`` with the line for anything else."""
    try:
        return yaml.load(text, Loader=_Yaml12)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        line = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the document"
        raise ConfigError(f"{where}: {line}: not readable as YAML: {problem}. Correct that line.") from None
    except RecursionError:
        raise ConfigError(f"{where}: nested too deeply; allowed: {_MAX_DEPTH} levels.") from None


def load_config(path: str | Path, cls: type[T], *, check: Callable[[T], Sequence[str]] | None = None) -> T:
    """The configuration file as a value of ``cls``.

    Args:
        path: of the YAML file.
        cls: the dataclass that is its schema.
        check: finds the mistakes that no single value shows (names that must agree, paths that must exist). It also
            sees a configuration with mistakes, as far as that could be read: wrong settings have their defaults.

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
    faults: list[str] = []
    value = _convert(parse_yaml(text, path.name), cls, f"{path.name}: $", faults, 0)
    if check is not None and isinstance(value, cls):
        faults += [
            fault if fault.startswith(f"{path.name}: ") else f"{path.name}: {fault}" for fault in check(value)
        ]
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return typing.cast(T, value)


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
    return yaml.dump(to_mapping(value), Dumper=_Dumper12, sort_keys=False, allow_unicode=True, width=110)


def nearest(name: str, allowed: Sequence[str]) -> str:
    """``; did you mean 'x'?`` for the nearest allowed name, else nothing."""
    close = difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


_BRIEF = reprlib.Repr()  # aliases can make a value of a few lines that is written out in gigabytes
_BRIEF.maxlevel = 2


def _kind(value: Any) -> str:
    names = {
        bool: "true/false",
        int: "a whole number",
        float: "a number",
        str: "text",
        dict: "a mapping",
        list: "a list",
    }
    return "nothing" if value is None else names.get(type(value), type(value).__name__)


def _found(value: Any) -> str:
    if value is None:
        return "found nothing"
    text = repr(value) if isinstance(value, str) else _BRIEF.repr(value)
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
    return {int: "a whole number", float: "a finite number", str: "text", bool: "true or false"}.get(
        hint, str(hint)
    )


def _parse_units(text: str, units: Mapping[str, int]) -> int | None:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", text.strip())
    if not match or match[2].lower() not in units:
        return None
    number = Fraction(match[1]) * units[match[2].lower()]  # 2.3 * 1000 is no whole number in floating point
    return int(number) if number.denominator == 1 else None


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
        near = nearest(value, [str(a) for a in arguments]) if isinstance(value, str) else ""
        faults.append(f"{where}: {_found(value)}{near or '.'} Allowed: {_allowed(hint)}.")
        return None
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(
                _convert(v, arguments[0], f"{where}[{i}]", faults, depth + 1) for i, v in enumerate(value)
            )
    elif origin is dict:
        if isinstance(value, Mapping):
            converted = {}
            for key, entry in value.items():
                name = int(key) if arguments[0] is int and isinstance(key, str) and key.isdecimal() else key
                if type(name) is not arguments[0]:
                    remedy = "put it in quotes" if arguments[0] is str else "write a whole number"
                    faults.append(f"{where}: the name {_found(key)[6:]} is not allowed here; {remedy}.")
                if name in converted:
                    faults.append(f"{where}.{key}: the name {name} is given twice; write it once.")
                before = len(faults)
                converted[name] = _convert(entry, arguments[1], f"{where}.{key}", faults, depth + 1)
                if converted[name] is None and len(faults) > before:
                    del converted[name]
            return converted
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
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


def _convert_union(
    value: Any, options: tuple[Any, ...], hint: Any, where: str, faults: list[str], depth: int
) -> Any:
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
    usable: set[str] = set()
    for name, field in fields.items():
        if name in value:
            own = len(faults)
            arguments[name] = converted = _convert(
                value[name], hints[name], f"{where}.{name}", faults, depth + 1
            )
            if len(faults) == own or dataclasses.is_dataclass(converted) or isinstance(converted, dict):
                usable.add(name)
        elif _is_required(field):
            faults.append(f"{where}.{name}: missing; required: {_allowed(hints[name])}.")
    if len(faults) == before:
        try:
            return cls(**arguments)
        except ValueError as error:
            faults.append(f"{where}: {error}")
            usable = set()
    for attempt in (usable, set()):  # what is left of it, so that checks across sections can look at the rest
        with contextlib.suppress(TypeError, ValueError):
            return cls(**{name: arguments[name] for name in attempt})
    return None


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
