"""IDEAS.md says where each technique lives: every line has one of three kinds, and names what is there."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("filters", "curate", "mixtures")
TEXT = (ROOT / "IDEAS.md").read_text(encoding="utf-8")
HEADER = ["idea", "source", "where"]
CODE = re.compile(r"`([^`]+\.py)(?::([^`]*))?`")  # `path.py` or `path.py:name`, and so `path.py:Class.member`


def rows_of(text: str) -> list[tuple[int, list[str]]]:
    """(line number from 1, cells) of every table row, headers and the lines below them included."""
    return [
        (number, [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")])
        for number, line in enumerate(text.splitlines(), start=1)
        if line.lstrip().startswith("|")
    ]


def ideas_of(text: str) -> list[tuple[int, list[str]]]:
    """The rows that are ideas."""
    return [
        (number, cells)
        for number, cells in rows_of(text)
        if cells != HEADER and not all(re.fullmatch(r":?-+:?", cell) for cell in cells)
    ]


@cache
def names_in(path: str) -> frozenset[str]:
    """What a module defines at its top level, and the members of its classes as ``Class.member``."""
    found: set[str] = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    visit(ast.parse((ROOT / path).read_text(encoding="utf-8")).body, "")
    return frozenset(found)


def faults_of(cells: list[str]) -> list[str]:
    """What is wrong with one idea; nothing for a line that tells the truth."""
    if len(cells) != 3:
        return [f"{len(cells)} cells; allowed: three"]
    faults = [f"its cell '{name}' is empty" for name, cell in zip(HEADER, cells, strict=True) if not cell]
    where = cells[2]
    code = CODE.findall(where)
    is_planned = where.startswith("planned")
    if is_planned and not re.fullmatch(r"planned, `[^`:]+\.py`", where):
        faults.append("allowed: planned, `module.py` and nothing else")
    elif where.startswith("not here") and not re.fullmatch(r"not here, use \S.*: \S.*", where):
        faults.append("allowed: not here, use X: why")
    elif not code and not where.startswith("not here"):
        faults.append("names no module; allowed: `module.py:name`, planned, or not here")
    for path, name in code:
        if path.split("/")[0] not in FLOORS or not re.fullmatch(r"[a-z0-9_]+(/[a-z0-9_]+)+\.py", path):
            faults.append(f"{path} lies in none of {', '.join(FLOORS)}")
        elif not is_planned and not (ROOT / path).is_file():
            faults.append(f"{path} does not exist")
        elif not is_planned and name and name not in names_in(path):
            faults.append(f"{path} defines no {name}")
    return faults


def repeated(text: str) -> list[str]:
    """Ideas that stand there more than once, whatever their case."""
    counts = Counter(cells[0].casefold() for _, cells in ideas_of(text))
    return sorted(idea for idea, count in counts.items() if count > 1)


def test_every_idea_names_what_is_there() -> None:
    faults = [
        f"IDEAS.md:{number}: {cells[0]}: {fault}"
        for number, cells in ideas_of(TEXT)
        for fault in faults_of(cells)
    ]
    assert faults == []


def test_no_idea_stands_in_two_places() -> None:
    assert repeated(TEXT) == []


def test_every_subject_has_one_table_of_its_own() -> None:
    """A table is a header, the line below it, and at least one idea; a heading has one table or sub-headings."""
    sections = re.split(r"^##+ (.+)$", TEXT, flags=re.MULTILINE)[1:]
    subjects = dict(zip(sections[::2], sections[1::2], strict=True))
    assert len(subjects) == len(sections) // 2
    for subject, text in subjects.items():
        rows = [cells for _, cells in rows_of(text)]
        if subject == "What is left to others":
            assert rows == []
            continue
        assert rows[0] == HEADER, subject
        assert rows.count(HEADER) == 1, subject
        assert rows[1] == ["---"] * 3, subject
        assert len(ideas_of(text)) == len(rows) - 2 > 0, subject


def test_every_heading_can_be_reached_from_the_top() -> None:
    links = re.findall(r"\]\(#([a-z-]+)\)", TEXT)
    headings = [
        title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", TEXT, flags=re.MULTILINE)
    ]
    assert links == headings


@pytest.mark.parametrize(
    "where",
    [
        "`filters/rules.py:failing`",
        "`filters/rules.py`, `filters/rules.py:Rule.bound` (with a remark)",
        "`filters/gopher.py:GOPHER`, measured in `filters/scan.py:count_text`",
        "planned, `mixtures/importing_from_the_moon.py`",
        "not here, use trafilatura: extraction is a field of its own",
    ],
)
def test_a_true_line_has_no_fault(where: str) -> None:
    assert faults_of(["idea", "source", where]) == []


@pytest.mark.parametrize(
    ("cells", "faults"),
    [
        (["idea", "source"], ["2 cells; allowed: three"]),
        (["idea", "source", "`filters/rules.py`", "more"], ["4 cells; allowed: three"]),
        (["idea", "", "`filters/rules.py`"], ["its cell 'source' is empty"]),
        (["i", "s", "somewhere"], ["names no module; allowed: `module.py:name`, planned, or not here"]),
        (["i", "s", "`filters/moon.py:rise`"], ["filters/moon.py does not exist"]),
        (["i", "s", "`filters/rules.py:Moon`"], ["filters/rules.py defines no Moon"]),
        (["i", "s", "`filters/rules.py:Rule.moon`"], ["filters/rules.py defines no Rule.moon"]),
        (
            ["i", "s", "`tests/test_ideas.py`"],
            ["tests/test_ideas.py lies in none of filters, curate, mixtures"],
        ),
        (["i", "s", "planned, `tests/moon.py`"], ["tests/moon.py lies in none of filters, curate, mixtures"]),
        (["i", "s", "planned"], ["allowed: planned, `module.py` and nothing else"]),
        (["i", "s", "planned, `mixtures/a.py:b`"], ["allowed: planned, `module.py` and nothing else"]),
        (["i", "s", "not here"], ["allowed: not here, use X: why"]),
        (["i", "s", "not here, use X"], ["allowed: not here, use X: why"]),
    ],
)
def test_a_false_line_is_found(cells: list[str], faults: list[str]) -> None:
    assert faults_of(cells) == faults


def test_an_idea_given_twice_is_found_in_any_case() -> None:
    rows = "| idea | source | where |\n| --- | --- | --- |\n| One | a | b |\n| Two | a | b |\n| one | c | d |"
    assert repeated(rows) == ["one"]
    assert [number for number, _ in ideas_of(rows)] == [3, 4, 5]
