"""Rewrites text without changing what it says: line ends, Unicode form, text read with the wrong charset.

Steps, always in this order:

    newlines    CR LF and lone CR become LF                     "a\\r\\nb"       -> "a\\nb"
    mojibake    UTF-8 that was read as another charset          "donâ€™t"      -> "don’t"
    nfc, nfkc   normal form of Unicode (UAX #15)                "e" + U+0301   -> "é"

Line ends come first because mojibake is repaired line by line, as ftfy does it: a bad line must not be judged
by the good ones around it. The normal form comes last because NFKC destroys the evidence ("™" becomes "TM").
A repair may leave a decomposed letter, and composing may complete a damaged sequence, so the documents that a
round changed go through all steps again until a round changes nothing: ``normalize`` is idempotent.

Price: see tests/benchmarks/kernels.py; ASCII text costs next to nothing, mojibake and NFKC more than NFC. Scans of the bytes decide which documents a step
could change, and only those become Python strings. A column in which nothing changes is returned as it came.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.column import Texts, as_large_string, string_buffers

Form = Literal["NFC", "NFKC"]
Rows = npt.NDArray[np.int64]
Step = Callable[
    [pa.LargeStringArray], tuple[Rows, list[str]]
]  # column -> changed rows, ascending; their new texts

EDITS = pa.schema([("row", pa.int64()), ("detail", pa.string())])
MAX_ROUNDS = 8  # the last changes nothing: two are the rule, three the most seen on 48,599 real documents
SCAN_BLOCK = 1 << 20  # bytes; a block and its mask stay in the cache
STRINGS_AT_ONCE = 1000
CARRIAGE_RETURN = 0x0D
FIRST_NFC_LEAD_BYTE = 0xCC  # of U+0300: texts of lower code points are in NFC (UAX #15, section 9)


@dataclass(frozen=True, slots=True)
class Normalize:
    """What ``normalize`` may do to a text.

    Attributes:
        unicode: normal form of the text. "NFC" composes letters and accents, and readers see no difference;
            "NFKC" also replaces ligatures, full-width letters, superscripts and the like by plain ones, which
            loses meaning ("x²" becomes "x2"); None leaves code points alone.
        fix_mojibake: repair UTF-8 that was decoded with another charset, where ``ftfy.badness`` finds a
            suspicious sequence and ``ftfy.fix_encoding`` the charset (Speer 2019, ftfy,
            doi:10.5281/zenodo.2591652).
        newlines: end every line with LF alone.
    """

    unicode: Form | None = "NFC"
    fix_mojibake: bool = False
    newlines: bool = True

    def __post_init__(self) -> None:
        if self.unicode not in ("NFC", "NFKC", None):
            raise ValueError(f"unicode is {self.unicode!r}; allowed are 'NFC', 'NFKC' and null")


def normalize(texts: Texts, options: Normalize | None = None) -> tuple[pa.LargeStringArray, pa.Table]:
    """The texts after the steps that ``options`` names (by default newlines and NFC), and which changed what.

    Args:
        texts: strings of any Arrow string type; a null is an empty text.
        options: see ``Normalize``.

    Returns:
        The rewritten column, large_string; where nothing changed, the very buffers of ``texts`` if those are
        large_string. And the edits, one row for each changed document in ascending order: ``row int64`` and
        ``detail string``, the steps that changed it in their order, as "newlines,mojibake,nfc".

    >>> texts, edits = normalize(pa.array(["plain", "cafe\\u0301\\r\\n"]))
    >>> texts.to_pylist(), edits.to_pylist()
    (['plain', 'café\\n'], [{'row': 1, 'detail': 'newlines,nfc'}])
    """
    options = options or Normalize()
    column = as_large_string(texts)
    if column.null_count:
        column = as_large_string(pc.fill_null(column, ""))
    steps = _steps(options)
    edited = {name: np.zeros(len(column), np.bool_) for name in steps}

    rows, work = np.arange(len(column)), column
    for _ in range(MAX_ROUNDS):
        changed = np.zeros(len(work), np.bool_)
        for name, step in steps.items():
            where, rewritten = step(work)
            if where.size:
                work = _replace(work, where, rewritten)
                changed[where] = True
                edited[name][rows[where]] = True
        if not changed.any():
            break
        work = work.filter(pa.array(changed))
        rows = rows[changed]
        column = _replace(column, rows, work)
    return column, _edits(edited)


def _steps(options: Normalize) -> dict[str, Step]:
    """The steps in their order, each under the name that ``detail`` gives it."""
    steps: dict[str, Step] = {}
    if options.newlines:
        steps["newlines"] = _end_lines
    if options.fix_mojibake:
        steps["mojibake"] = _repair
    if options.unicode is not None:
        steps[options.unicode.lower()] = functools.partial(_compose, form=options.unicode)
    return steps


def _end_lines(column: pa.LargeStringArray) -> tuple[Rows, list[str]]:
    """Texts that hold a CR, with LF in place of CR LF and CR."""
    offsets, data = string_buffers(column)
    found = [np.zeros(0, np.int64)]
    for start in range(
        int(offsets[0]), int(offsets[-1]), SCAN_BLOCK
    ):  # one mask for all bytes costs twenty times more
        places = np.flatnonzero(data[start : min(start + SCAN_BLOCK, int(offsets[-1]))] == CARRIAGE_RETURN)
        if places.size:
            found.append(np.unique(np.searchsorted(offsets, start + places, side="right") - 1))
    rows = np.unique(np.concatenate(found))
    return rows, [text.replace("\r\n", "\n").replace("\r", "\n") for text in _strings(column, rows)]


def _repair(column: pa.LargeStringArray) -> tuple[Rows, list[str]]:
    """Texts in which ``ftfy.fix_encoding`` changes at least one line."""
    from ftfy import fix_encoding  # a tenth of a second to import, and few runs ask for it

    suspects = np.flatnonzero(
        pc.match_substring_regex(column, _bad_line_pattern()).to_numpy(zero_copy_only=False)
    )
    rows, rewritten = [], []
    for row, text in zip(suspects.tolist(), _strings(column, suspects), strict=True):
        fixed = "\n".join(fix_encoding(line) for line in text.split("\n"))
        if fixed != text:
            rows.append(row)
            rewritten.append(fixed)
    return np.array(rows, np.int64), rewritten


@functools.cache
def _bad_line_pattern() -> str:
    """The pattern of ``ftfy.badness`` in the dialect of RE2: Arrow runs it far faster than ``re``.

    It finds every text with a line in which ``ftfy.badness.is_bad`` is true, and may find a few more: the
    classes of spaces and of word characters mean at least as much as in Python, and a class that excludes
    letters may match a line end. ftfy itself then decides.
    """
    from ftfy.badness import BADNESS_RE

    dialect = {r"\w": r"[\pL\pM\pN_]", r"\s": r"[\s\pZ\x{0b}\x{1c}-\x{1f}\x{85}]"}
    pattern, parts, in_class, at = (
        BADNESS_RE.pattern,
        ["(?ms)"],
        False,
        0,
    )  # written with re.VERBOSE, which RE2 lacks
    while at < len(pattern):
        letter = pattern[at]
        if letter == "\\":
            escape = pattern[at : at + 2]
            parts.append(dialect.get(escape, escape))
            at += 2
            continue
        if letter == "#" and not in_class:
            at = pattern.index("\n", at)
        elif in_class or not letter.isspace():
            parts.append(letter)
        in_class = letter == "[" or (in_class and letter != "]")
        at += 1
    return "".join(parts)


def _compose(column: pa.LargeStringArray, *, form: Form) -> tuple[Rows, list[str]]:
    """Texts that are not in ``form``, in ``form``."""
    suspects = _with_byte_from(column, FIRST_NFC_LEAD_BYTE if form == "NFC" else 0x80)
    rows, rewritten = [], []
    for row, text in zip(suspects.tolist(), _strings(column, suspects), strict=True):
        if not unicodedata.is_normalized(form, text):
            rows.append(row)
            rewritten.append(unicodedata.normalize(form, text))
    return np.array(rows, np.int64), rewritten


def _with_byte_from(column: pa.LargeStringArray, bound: int) -> Rows:
    """Rows that hold a byte of at least ``bound``."""
    offsets, data = string_buffers(column)
    filled = np.flatnonzero(np.diff(offsets))  # reduceat cannot see an empty text
    if filled.size == 0:
        return filled
    highest = np.maximum.reduceat(
        data[: offsets[-1]], offsets[filled]
    )  # texts lie back to back: each ends at the next
    return filled[highest >= bound]


def _strings(column: pa.LargeStringArray, rows: Rows) -> Iterator[str]:
    """The texts of ``rows``, a few at a time as Python strings."""
    for start in range(0, len(rows), STRINGS_AT_ONCE):
        yield from column.take(pa.array(rows[start : start + STRINGS_AT_ONCE])).to_pylist()


def _replace(
    column: pa.LargeStringArray, rows: Rows, texts: list[str] | pa.LargeStringArray
) -> pa.LargeStringArray:
    """The column with the texts of ``rows`` (ascending) exchanged."""
    mask = np.zeros(len(column), np.bool_)
    mask[rows] = True
    return pc.replace_with_mask(column, pa.array(mask), pa.array(texts, pa.large_string()))


def _edits(edited: dict[str, npt.NDArray[np.bool_]]) -> pa.Table:
    """One row for each document that any step changed."""
    changed = np.logical_or.reduce(list(edited.values())) if edited else np.zeros(0, np.bool_)
    rows = np.flatnonzero(changed)
    details = [",".join(name for name, mask in edited.items() if mask[row]) for row in rows]
    return pa.table({"row": rows, "detail": pa.array(details, pa.string())}, schema=EDITS)
