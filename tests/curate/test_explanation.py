"""``curate explain``: where a document came from, every reason, and the partner that it went for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.__main__ import main
from curate.config import from_mapping
from curate.explanation import Explanation, explain
from curate.pipeline import run_curation
from curate.settings import CurateConfig
from filters.errors import ConfigError, DataError

# Twenty-two words, none of them twice in a row of two; long enough for the rule that is set below.
GOOD = (
    "The old clock in the hall of the house was slow and the children that lived with us were late for school"
)
NEAR = GOOD + " today"
ITEM = "which river flows through the town where the queen of the north was born and crowned in winter"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One document for each thing that can happen to one; the directory was moved to a name with wildcards."""
    home = tmp_path_factory.mktemp("explain")
    documents: list[dict[str, Any] | bytes] = [
        {"id": "near", "text": NEAR},
        {"id": "good", "text": GOOD},
        b"broken",
        {"id": "twin", "text": NEAR},
        {"id": "short", "text": "# # …"},
        {"id": "edited", "text": "and the sea was calm\r\nto be with us that day of all the days we have seen so far off the coast of the cape"},
        {"id": "leaked", "text": f"it is said of the quiz that they asked {ITEM} and nobody had the answer to it"},
        {"id": "near", "text": "again"},
        {"text": "no id at all"},
    ]  # fmt: skip
    lines = [d if isinstance(d, bytes) else json.dumps(d).encode() for d in documents]
    (home / "web.jsonl").write_bytes(b"\n".join(lines))
    (home / "books.jsonl").write_text(json.dumps({"id": "good", "text": "x " + GOOD.upper() + " y"}) + "\n")
    (home / "eval.jsonl").write_text(json.dumps({"id": "q1", "question": ITEM}) + "\n")
    config = from_mapping(
        CurateConfig,
        {
            "sources": {
                "web": {"path": f"{home}/web.jsonl", "id": "id"},
                "books": {"path": f"{home}/books.jsonl", "id": "id", "priority": -1},
            },
            "ingest": {"max_quarantine_share": 1},
            "measure": {"language": False},
            "decontaminate": {
                "against": {"quiz": {"path": f"{home}/eval.jsonl", "text": "question", "id": "id"}}
            },
            "policy": {"use": ["gopher"], "set": {"gopher.word_count.min": 20}},
        },
    )
    return run_curation(config, home / "run", engine="inline", progress=False).directory.rename(
        home / "run[1]*"
    )


def one(run: Path, id: str, **options: Any) -> Explanation:
    (found,) = explain(run, id, **options)
    return found


def reasons(found: Explanation) -> list[tuple[str, str]]:
    return [(d["action"], d["rule"]) for d in found.decisions]


def test_a_kept_document_has_a_place_signals_and_no_reason(run: Path) -> None:
    found = explain(run, "near")[0]
    assert (found.outcome, found.origin["path"], found.origin["row"], found.origin["line"]) == (
        "kept",
        "web.jsonl",
        0,
        1,
    )
    assert (found.decisions, found.text, found.signals["word_count"]) == ([], NEAR, 23)
    shown = str(found).splitlines()
    assert shown[:3] == [
        "web / near: kept",
        "  read from web.jsonl, record 0, line 1",
        "  no rule fails, no duplicate, nothing edited",
    ]
    assert any("word_count 23" in line for line in shown)
    assert f"  text: {NEAR}" in shown


def test_every_failing_rule_is_printed_with_value_and_bound(run: Path) -> None:
    found = one(run, "short")
    assert found.outcome == "dropped"
    assert [rule for _, rule in reasons(found)] == [
        "gopher.alphabetic_word_ratio.min",
        "gopher.ellipsis_line_ratio.max",
        "gopher.ellipsis_word_ratio.max",
        "gopher.hash_word_ratio.max",
        "gopher.mean_word_length.min",
        "gopher.stop_word_count.min",
        "gopher.word_count.min",
    ]
    shown = str(found)
    assert "  read from web.jsonl, record 4, line 5\n" in shown
    assert "  drop      gopher.word_count.min: 3 (bound 20)\n" in shown
    assert "  drop      gopher.hash_word_ratio.max: 0.666667 (bound 0.1)\n" in shown


def test_a_copy_names_its_partner(run: Path) -> None:
    found = one(run, "twin")
    assert reasons(found) == [("drop", "exact.content_hash")]
    assert found.partners == {("web", "near"): NEAR}
    assert "  drop      exact.content_hash: 1 (bound 1), partner web / near\n" in str(found)


def test_a_near_copy_names_its_partner_with_the_similarity(run: Path) -> None:
    found = one(run, "good", source="web")
    assert reasons(found) == [("drop", "minhash.jaccard")]
    assert found.decisions[0]["similarity"] == pytest.approx(
        18 / 19, abs=1e-12
    )  # 22 words give 18 runs of five
    lines = str(found).splitlines()
    place = lines.index("  drop      minhash.jaccard: 0.947368 (bound 0.8), partner web / near")
    assert lines[place + 1] == f"            partner: {NEAR}"


def test_a_leaked_item_is_shown_with_its_place_in_the_text(run: Path) -> None:
    found = one(run, "leaked")
    assert reasons(found) == [("drop", "decontaminate.ngram_overlap")]
    (decision,) = found.decisions
    assert found.text[decision["span_start"] : decision["span_end"]] == ITEM
    assert found.partners == {("quiz", "q1"): ITEM}
    start = found.text.index(ITEM)
    assert f"partner quiz / q1, characters {start}-{start + len(ITEM)}\n            partner: {ITEM}\n" in str(
        found
    )


def test_an_edit_is_printed_and_drops_nothing(run: Path) -> None:
    found = one(run, "edited")
    assert (found.outcome, reasons(found)) == ("kept", [("edit", "normalize")])
    assert "  edit      normalize  [newlines]\n" in str(found)


def test_an_id_of_two_sources_is_explained_in_both_or_in_one(run: Path) -> None:
    assert [(e.source, e.outcome) for e in explain(run, "good")] == [("books", "dropped"), ("web", "dropped")]
    assert one(run, "good", source="books").partners == {("web", "near"): NEAR}


def test_a_repeated_id_is_explained_with_both_places(run: Path) -> None:
    kept, refused = explain(run, "near")
    assert (kept.outcome, refused.outcome) == ("kept", "quarantined")
    assert refused.origin == {"path": "web.jsonl", "row": 7, "line": 8}
    assert str(refused).splitlines() == [
        "web / near: quarantined",
        "  read from web.jsonl, record 7, line 8",
        "  repeated_id: the id 'near' was given before by web.jsonl, record 0 (line 1)",
    ]


@pytest.mark.parametrize(
    ("row", "reason"), [(2, "malformed_json: "), (8, "missing_id: no id in the field 'id'")]
)
def test_a_record_in_quarantine_is_called_by_its_place(row: int, reason: str, run: Path) -> None:
    found = one(run, f"web.jsonl#{row}")
    assert (found.outcome, found.source, found.origin["line"]) == ("quarantined", "web", row + 1)
    assert found.refused.startswith(reason)
    assert f"  {reason}" in str(found)


def test_an_unknown_id_names_the_nearest(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"no document is called 'twni'; did you mean 'twin'\?"):
        explain(run, "twni")
    with pytest.raises(ConfigError, match=r"no document is called 'twin'\. Ids stand in"):
        explain(run, "twin", source="books")
    with pytest.raises(ConfigError, match=r"--source: no source is called 'boks'; did you mean 'books'\?"):
        explain(run, "twin", source="boks")


def test_a_directory_that_is_no_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no finished run is here"):
        explain(tmp_path, "x")
    manifest = json.loads((run / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(DataError, match="format 99; this version reads up to format"):
        explain(tmp_path, "x")


def test_the_command_prints_every_document_of_the_id(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(run), "near"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("web / near: kept\n")
    assert "\nweb / near: quarantined\n" in said.out
    assert main(["explain", str(run), "good", "--source", "books"]) == 0
    assert capsys.readouterr().out.startswith(
        "books / good: dropped\n  read from books.jsonl, record 0, line 1\n"
    )
    assert main(["explain", str(run), "nothing like it"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.startswith("error: ")) == ("", True)


def test_a_document_cannot_steer_the_terminal_that_shows_it() -> None:
    shown = str(
        Explanation(
            id="a\nb",
            source="s",
            outcome="kept",
            origin={"path": "p", "row": 0, "line": None},
            refused="",
            decisions=[],
            signals={},
            text="\x1b[31mred \u202eback",
            partners={},
        )
    )
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert shown.splitlines()[0] == r"s / a\nb: kept"
    assert r"\x1b[31mred \u202eback" in shown
