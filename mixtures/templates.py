"""Templates: a row's fields -> the text of its input and of its target, by sandboxed Jinja.

Templates are data and may come from strangers. They are written in a small part of Jinja: ``{{ field }}``, ``if``,
``for``, ``set``, comparisons, sums, slices, and the filters, methods and functions listed below. They see the
fields of one row, which are strings and lists of strings, and nothing else: no attribute beginning with an underscore,
no macro, include or import, no object that could be changed. An unknown name is an error, never an empty string.

What a template may cost is bounded, too. Every operation that could make something large out of something small (sum,
product, power, join, replace, range, loops), and every one that looks through a whole value (methods, slices,
comparisons, ``in``, writing a list out), is counted against a budget for each rendering before it is carried out; the
source of a template, each value in it and its output are limited in length. A template that goes over a limit fails
with ``TemplateError`` and its row is rejected with that reason.

Price: compiled once (about 1 ms), then about 5 microseconds a rendering.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import jinja2
import jinja2.filters
import jinja2.meta
import jinja2.nodes as n
import jinja2.sandbox
from jinja2.visitor import NodeTransformer

FieldValue: TypeAlias = "str | list[str]"

MAX_SOURCE = 16_384
"""Characters of a template."""
MAX_LENGTH = 1_000_000
"""Characters of an output or of any string, items of any list."""
MAX_STEPS = 20_000_000
"""Budget of one rendering: a step is a character made or looked at; an iteration of a loop counts as 1,000."""
MAX_RANGE = 1_000
_ITERATION = 1_000
_ITEM = 20
"""Steps for an item of a list that is made or looked at: an object of Python's, not a byte."""

_NODES = (
    n.Template, n.Output, n.TemplateData, n.Name, n.Const, n.List, n.Tuple, n.Getattr, n.Getitem, n.Slice,
    n.If, n.For, n.Assign, n.CondExpr, n.Compare, n.Operand, n.And, n.Or, n.Not, n.Neg, n.Pos, n.Add, n.Sub, n.Mul,
    n.Div, n.FloorDiv, n.Mod, n.Pow, n.Concat, n.Filter, n.Test, n.Call, n.Keyword,
)  # fmt: skip
_FILTERS = (
    "capitalize", "default", "first", "int", "join", "last", "length", "list", "lower", "replace", "reverse", "sort",
    "string", "title", "trim", "unique", "upper",
)  # fmt: skip
_TESTS = (
    "defined",
    "undefined",
    "none",
    "odd",
    "even",
    "in",
    "equalto",
    "string",
    "number",
    "sequence",
    "true",
    "false",
)
_LOOP = ("index", "index0", "revindex", "revindex0", "first", "last", "length")
_METHODS = (
    "split",
    "strip",
    "lstrip",
    "rstrip",
    "lower",
    "upper",
    "startswith",
    "endswith",
    "capitalize",
    "title",
)


class TemplateError(ValueError):
    """A template that is not allowed, or that went over a limit while it rendered."""


@dataclass(frozen=True, slots=True)
class Template:
    """How a row becomes an input and a target.

    Attributes:
        id: unique in its task.
        input, target: Jinja over the fields of the task.
        cot: whether the target gives the rationale before the answer.
    """

    id: str
    input: str
    target: str
    cot: bool = False

    def __post_init__(self) -> None:
        for part in ("input", "target"):
            try:
                _compiled(getattr(self, part))
            except TemplateError as error:
                raise ValueError(f"{part}: {error}") from None

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields that the template uses; ``input_fields`` are those of its input alone.

        >>> sorted(Template("ask", "{{ question }} {% for c in choices %}{{ c }}{% endfor %}", "{{ answer }}").fields)
        ['answer', 'choices', 'question']
        """
        return self.input_fields | _compiled(self.target).names

    @property
    def input_fields(self) -> frozenset[str]:
        """The names of the fields that the input uses."""
        return _compiled(self.input).names

    def render(self, fields: Mapping[str, FieldValue]) -> tuple[str, str]:
        """The input without white space at its end, and the target without any around it.

        Raises:
            TemplateError: a field is missing, an operation fails, or a limit is reached.

        >>> Template("ask", "Q: {{ question }}\\n", "{{ answer }}").render({"question": "2 + 3?", "answer": " 5"})
        ('Q: 2 + 3?', '5')
        """
        return _compiled(self.input).render(fields).rstrip(), _compiled(self.target).render(fields).strip()


@dataclass(frozen=True, slots=True)
class _Compiled:
    names: frozenset[str]
    code: jinja2.Template

    def render(self, fields: Mapping[str, FieldValue]) -> str:
        _meter.left = MAX_STEPS
        pieces: list[str] = []
        length = 0
        try:
            for piece in self.code.root_render_func(self.code.new_context(dict(fields))):
                length += len(piece)
                if length > MAX_LENGTH:
                    raise TemplateError(f"an output of more than {MAX_LENGTH:,} characters")
                pieces.append(piece)
        except TemplateError:
            raise
        except (
            jinja2.TemplateError,
            TypeError,
            ValueError,
            LookupError,
            ArithmeticError,
            AttributeError,
        ) as error:
            raise TemplateError(f"{type(error).__name__}: {error}") from None
        return "".join(pieces)


@lru_cache(maxsize=4096)
def _compiled(source: str) -> _Compiled:
    if len(source) > MAX_SOURCE:
        raise TemplateError(f"a template of {len(source):,} characters; allowed are {MAX_SOURCE:,}")
    _meter.left = MAX_STEPS  # what is constant is computed while compiling
    environment = _environment()
    try:
        tree = environment.parse(source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"line {error.lineno}: {error.message}") from None
    except (RecursionError, MemoryError):
        raise TemplateError("a template that is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise TemplateError(str(error)) from None
    _check(tree, None)
    names = frozenset(jinja2.meta.find_undeclared_variables(tree)) - {"range"}
    try:
        return _Compiled(names, environment.from_string(_Bounded().visit(tree)))
    except (jinja2.TemplateError, SyntaxError, RecursionError, MemoryError) as error:
        raise TemplateError(f"a template that does not compile: {error}") from None


def _check(node: n.Node, parent: n.Node | None) -> None:
    """Refuse what the small language does not have; what it lets through prints no address and no name of Python's."""
    if not isinstance(node, (*_NODES, n.Helper)):
        raise TemplateError(
            f"line {node.lineno}: '{type(node).__name__.lower()}' is not allowed in a template"
        )
    if isinstance(node, n.Filter):
        _allow("filter", node.name, _FILTERS, node.lineno)
    elif isinstance(node, n.Test):
        _allow("test", node.name, _TESTS, node.lineno)
    elif isinstance(node, n.Name) and node.name in ("range", "loop", "self", "super", "caller"):
        right_place = {"range": n.Call, "loop": n.Getattr}.get(node.name)
        if right_place is None or not isinstance(parent, right_place):
            raise TemplateError(f"line {node.lineno}: '{node.name}' cannot be used as a value")
    elif isinstance(node, n.Call):
        if isinstance(node.node, n.Name):
            _allow("function", node.node.name, ("range",), node.lineno)
        elif not isinstance(node.node, n.Getattr):
            raise TemplateError(f"line {node.lineno}: only range() and methods of text can be called")
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise TemplateError(f"line {node.lineno}: * and ** in a call are not allowed in a template")
    elif isinstance(node, n.Getattr):
        if isinstance(parent, n.Call):
            _allow("method", node.attr, _METHODS, node.lineno)
        elif isinstance(node.node, n.Name) and node.node.name == "loop":
            _allow("attribute of loop", node.attr, _LOOP, node.lineno)
        else:
            raise TemplateError(
                f"line {node.lineno}: no attribute '{node.attr}'; fields are texts and lists of texts"
            )
    elif isinstance(node, n.For) and node.recursive:
        raise TemplateError(f"line {node.lineno}: a recursive loop is not allowed in a template")
    for child in node.iter_child_nodes():
        _check(child, node)


def _allow(what: str, name: str, allowed: tuple[str, ...], line: int) -> None:
    if name not in allowed:
        raise TemplateError(f"line {line}: no {what} '{name}' in templates; allowed are {', '.join(allowed)}")


class _Bounded(NodeTransformer):
    """Rewrites what Jinja's sandbox does not let us count: ``a ~ b`` to a sum of strings, loops to counted loops, slices
    to a filter; what is compared, tested or written out is weighed before.
    """

    def visit_Concat(self, node: n.Concat) -> n.Node:  # noqa: N802 - the name that the visitor looks for
        self.generic_visit(node)
        texts = [n.Filter(part, "string", [], [], None, None, lineno=node.lineno) for part in node.nodes]
        total: n.Expr = texts[0]
        for text in texts[1:]:
            total = n.Add(total, text, lineno=node.lineno)
        return total

    def visit_For(self, node: n.For) -> n.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = n.Filter(node.iter, _COUNTED, [], [], None, None, lineno=node.lineno)
        return node

    def visit_Getitem(self, node: n.Getitem) -> n.Node:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, n.Slice):
            return node
        bounds = [bound or n.Const(None) for bound in (node.arg.start, node.arg.stop, node.arg.step)]
        return n.Filter(node.node, _SLICED, bounds, [], None, None, lineno=node.lineno)

    def visit_Compare(self, node: n.Compare) -> n.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _weighing(node.expr)
        for operand in node.ops:
            operand.expr = _weighing(operand.expr)
        return node

    def visit_Test(self, node: n.Test) -> n.Node:  # noqa: N802
        self.generic_visit(node)
        node.node = _weighing(node.node)
        node.args = [_weighing(argument) for argument in node.args]
        return node

    def visit_Output(self, node: n.Output) -> n.Node:  # noqa: N802
        self.generic_visit(node)
        node.nodes = [part if isinstance(part, n.TemplateData) else _weighing(part) for part in node.nodes]
        return node


# no identifiers, so no template can name them
_COUNTED = "counted loop"
_SLICED = "counted slice"
_WEIGHED = "weighed value"


def _weighing(node: n.Expr) -> n.Filter:
    return n.Filter(node, _WEIGHED, [], [], None, None, lineno=node.lineno)


class _Meter(threading.local):
    """What is left of the budget of the rendering that this thread is doing."""

    left = MAX_STEPS

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise TemplateError(f"more than {MAX_STEPS:,} steps in one rendering")

    def make(self, size: int) -> None:
        if size > MAX_LENGTH:
            raise TemplateError(f"a value of more than {MAX_LENGTH:,} characters or items")
        self.spend(size)


_meter = _Meter()


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])

    def getitem(self, obj: object, argument: object) -> object:
        if not isinstance(argument, int | slice):  # a string would name an attribute
            raise TemplateError(f"[...] with a {type(argument).__name__}; allowed are numbers and slices")
        return super().getitem(obj, argument)  # type: ignore[arg-type]

    def call(
        self, context: jinja2.runtime.Context, function: object, *arguments: object, **named: object
    ) -> object:
        text = getattr(function, "__self__", None)
        # a method looks through its text, strip does so for each of the characters that it takes away
        if isinstance(text, str):
            given = [*arguments, *named.values()]
            size = sum(len(value) for value in given if isinstance(value, str | list | tuple))
            is_strip = getattr(function, "__name__", "").endswith("strip")
            _meter.make(len(text))
            _meter.spend(len(text) * size if is_strip else size)
        made = super().call(context, function, *arguments, **named)
        if isinstance(made, list):
            _meter.spend(_ITEM * len(made))
        return made

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: object, right: object
    ) -> object:
        if operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            _meter.make(len(left) + len(right))
        elif not (_is_small_number(left) and _is_small_number(right)):
            raise TemplateError(
                f"'{operator}' of a {type(left).__name__} and a {type(right).__name__}, or of large numbers"
            )
        elif operator == "**" and not (isinstance(right, int) and 0 <= right <= 8):
            raise TemplateError("'**' with a power other than 0 to 8")
        return super().call_binop(context, operator, left, right)


def _is_small_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) <= 1_000_000


@lru_cache(maxsize=1)
def _environment() -> _Environment:
    environment = _Environment(
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        optimized=False,  # nothing is computed while compiling, where no budget holds
    )
    environment.globals = {"range": _range}
    made: dict[str, Callable[..., object]] = {
        name: _linear(jinja2.filters.FILTERS[name])
        for name in (
            "capitalize",
            "first",
            "last",
            "length",
            "lower",
            "string",
            "title",
            "upper",
        )
    }
    made |= {"default": jinja2.filters.do_default, "int": _int, "join": _join, "replace": _replace}
    made |= {"list": _items, "reverse": _reverse, "sort": _sort, "trim": _trim, "unique": _unique}
    made |= {_COUNTED: _counted, _SLICED: _sliced, _WEIGHED: _weighed}
    environment.filters = made
    environment.tests = {name: environment.tests[name] for name in _TESTS} | {
        "odd": _is_odd,
        "even": _is_even,
    }
    return environment


def _linear(function: Callable[..., object]) -> Callable[..., object]:
    """A filter that makes at most about as much as it is given."""
    takes_environment = hasattr(function, "jinja_pass_arg")

    def counted(value: object, *arguments: object) -> object:
        _meter.make(len(value) if isinstance(value, str | list | tuple) else 100)
        _weighed(value)
        return (
            function(_environment(), value, *arguments) if takes_environment else function(value, *arguments)
        )

    return counted


def _counted(values: object) -> Iterator[object]:
    if not isinstance(values, str | list | tuple | range):
        raise TemplateError(f"a loop over a {type(values).__name__}; allowed are lists, texts and range()")
    for value in values:
        _meter.spend(_ITERATION)
        yield value


def _weighed(value: object) -> object:
    """The value, when what it costs to compare it or to write it out, lists in lists and all, is paid for."""
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, str):
            _meter.spend(len(item))
        elif isinstance(item, list | tuple):
            _meter.spend(_ITEM * (len(item) + 1))
            rest.extend(item)
    return value


def _sliced(value: object, start: int | None, stop: int | None, step: int | None) -> object:
    if not isinstance(value, str | list | tuple | range):
        raise TemplateError(f"[...] of a {type(value).__name__}; allowed are texts and lists")
    _meter.spend(len(value) if isinstance(value, str) else _ITEM * len(value))
    return value[start:stop:step]


def _is_odd(value: object) -> bool:
    return _modulo_2(value) == 1


def _is_even(value: object) -> bool:
    return _modulo_2(value) == 0


def _modulo_2(value: object) -> float:
    if not (isinstance(value, int | float) and _is_small_number(value)):  # % of a text would format it
        raise TemplateError(f"odd or even of a {type(value).__name__}, or of a large number")
    return value % 2


def _range(*arguments: int) -> range:
    values = range(*arguments)
    if len(values) > MAX_RANGE:
        raise TemplateError(f"a range of {len(values):,}; allowed are {MAX_RANGE:,}")
    return values


def _items(values: object) -> list[object]:
    items = list(_counted(values))
    _meter.make(len(items))
    _weighed(items)
    return items


def _int(value: object, default: int = 0) -> int:
    if isinstance(value, str) and len(value) > 40:
        raise TemplateError("int of a text of more than 40 characters")
    return jinja2.filters.do_int(value, default)


def _join(values: Iterable[object], separator: str = "") -> str:
    texts = [str(item) for item in _items(values)]
    _meter.make(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _replace(text: str, old: str, new: str) -> str:
    _meter.make(len(text) + len(new) * (text.count(old) if old else len(text) + 1))
    return text.replace(old, new)


def _trim(value: object, characters: str | None = None) -> str:
    text = str(_weighed(value))
    _meter.spend(len(text) * len(characters or " "))
    return text.strip(characters)


def _sort(values: Iterable[object], reverse: bool = False) -> list[object]:
    return sorted(_items(values), key=str, reverse=reverse)


def _reverse(values: Iterable[object]) -> object:
    return values[::-1] if isinstance(values, str) else _items(values)[::-1]


def _unique(values: Iterable[object]) -> list[object]:
    return list(dict.fromkeys(_items(values)))
