"""The report of a curated run, written from a small run directory whose every number is known by hand.

The run is that of ``conftest.py``.
"""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from curate.report import write_report
from filters.errors import ConfigError, DataError, RunError


class Tables(HTMLParser):
    """The tables of a page by caption, as lists of rows of texts; and the page's text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self.text = ""
        self.rows: list[list[str]] = []
        self.caption = ""
        self.into: str | None = None
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.rows, self.caption = [], ""
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("caption", "td", "th"):
            self.into = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.found[self.caption] = self.rows
        if tag in ("caption", "td", "th"):
            self.into = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.into == "caption":
            self.caption += data
        elif self.into:
            self.rows[-1][-1] += data

    def table(self, beginning: str) -> list[dict[str, str]]:
        """The rows of the table whose caption begins so, each by its column."""
        (rows,) = [rows for caption, rows in self.found.items() if caption.startswith(beginning)]
        return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, toy: SimpleNamespace) -> str:
    return write_report(toy.write(tmp_path_factory.mktemp("run"))).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tables(page: str) -> Tables:
    return Tables(page)


def test_the_verdict_names_what_is_kept_and_what_costs_most(page: str) -> None:
    verdict = Tables(page[page.index('<p class="verdict">') : page.index("<nav")]).text
    assert "19 of 32 records are kept (59.4%)." in verdict
    assert (
        "Most losses are at the policy stage (5 documents; its busiest rule is gopher.word_count.min)."
        in verdict
    )
    assert "3 duplicates were removed, every one of them verified" in verdict


def test_the_tiles_hold_the_numbers_of_the_run(page: str) -> None:
    tiles = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)", page))
    assert tiles == {
        "Documents in": "30",
        "Kept": "19",
        "Duplicates": "3",
        "Contaminated": "1",
        "Quarantined": "2",
        "Warnings": "1",
        "Classifier AUC": "0.912",
    }
    assert "removed, all verified: 2 exact, 1 near" in page
    assert "web: empty.jsonl holds no record." in page


def test_a_document_is_counted_at_the_first_stage_that_drops_it(tables: Tables) -> None:
    web, books, total = tables.table("Records lost at each stage")
    assert web == {
        "source": "web", "read": "24", "quarantined": "2", "policy": "4", "language": "1", "quality": "1",
        "decontaminate": "1", "exact": "2", "minhash": "1", "kept": "12", "share": "50.0%",
    }  # fmt: skip
    assert (books["policy"], books["kept"], books["read"]) == ("1", "7", "8")
    lost = [
        int(total[name])
        for name in ("quarantined", "policy", "language", "quality", "decontaminate", "exact", "minhash")
    ]
    assert int(total["read"]) - sum(lost) == int(total["kept"]) == 19


def test_a_rule_counts_all_its_failures_and_those_that_it_alone_causes(tables: Tables) -> None:
    rules = {row["rule"]: row for row in tables.table("Documents that fail each rule")}
    found = {
        rule: (row["stage"], row["allowed"], row["failing"], row["only this rule"])
        for rule, row in rules.items()
    }
    assert found == {
        "gopher.word_count.min": ("policy", "≥ 50", "4", "3"),
        "gopher_repetition.top_2gram_char_ratio.max": ("policy", "≤ 0.2", "2", "1"),
        "language.min_score": ("language", "≥ 0.5", "2", "0"),
        "quality.min_score": ("quality", "≥ 0.05", "2", "1"),
        "decontaminate.ngram_overlap": ("decontaminate", "1", "1", "1"),
        "exact.content_hash": ("exact", "1", "2", "2"),
        "minhash.jaccard": ("minhash", "0.8", "1", "1"),
    }
    assert rules["gopher.word_count.min"]["of all documents"] == "13.3%"


def test_rules_that_nothing_fails_are_listed_with_their_origin(tables: Tables) -> None:
    (row,) = [r for r in tables.table("What this run allows") if r["rule"] == "gopher.mean_word_length.max"]
    assert (row["allowed"], row["failing"]) == ("≤ 10", "0")
    assert "arXiv:2112.11446" in row["published as"]


def test_decisions_that_drop_nothing_have_their_own_table(tables: Tables) -> None:
    rows = [(r["rule"], r["action"], r["documents"]) for r in tables.table("Decisions that drop nothing")]
    assert sorted(rows) == [("minhash.jaccard", "near_miss", "1"), ("normalize.mojibake", "edit", "1")]


def test_languages_say_how_many_documents_stay(page: str, toy: SimpleNamespace) -> None:
    section = page[page.index('id="languages"') : page.index('id="duplicates"')]
    labels = re.findall(r'class="label">([^<]*)</span>.*?class="value">([^<]*)</span>', section)
    german = [key for key in toy.texts() if key[1] % 5 == 4]
    stays = [key for key in german if key not in toy.drops]
    assert labels == [
        ("en", f"{19 - len(stays)} of {30 - len(german)}"),
        ("de", f"{len(stays)} of {len(german)}"),
    ]


def test_the_curve_marks_the_threshold_and_its_chance(page: str) -> None:
    assert "threshold 0.8" in page
    # 1 - (1 - 0.8 ** 6) ** 20
    assert "20 bands of 6 rows: a pair at the threshold becomes a candidate with probability 0.998" in page


def test_an_example_shows_the_two_documents_nearest_to_the_bound_and_the_farthest(page: str) -> None:
    group = page[page.index("<summary>gopher.word_count.min: 4 documents") :]
    group = Tables(group[: group.index("</details>")]).text
    assert re.findall(r"(d\d\d) of (\w+): value (\d+), bound 50", group) == [
        ("d01", "web", "49"),
        ("d00", "books", "30"),
        ("d02", "web", "3"),
    ]


def test_an_example_of_contamination_marks_the_passage(page: str, toy: SimpleNamespace) -> None:
    text = toy.texts()["web", 6]
    assert text[24_027:24_045] == "how many eggs are "
    assert "…" + text[23_877:24_027] + "<mark>how many eggs are </mark>left? Page 6" in page
    assert "shares words with <code>test-<wbr>7</code> of gsm8k" in page


def test_contamination_is_counted_by_evaluation_set(tables: Tables) -> None:
    assert tables.table("Documents that share words") == [
        {"evaluation set": "gsm8k", "documents": "1", "its items found": "1"}
    ]


def test_a_near_duplicate_stands_beside_its_partner_with_the_difference_marked(page: str) -> None:
    group = page[page.index("<summary>minhash.jaccard: 1 documents") :]
    group = group[: group.index("</details>")]
    assert "removed: web / d11" in group and "stays: web / d10" in group
    assert "similarity 0.900, bound 0.8" in group
    near = page[page.index("<summary>minhash.jaccard (near miss)") :]
    near = near[: near.index("</details>")]
    assert "also kept: web / d13" in near and "stays: web / d12" in near
    assert "<mark>13</mark>" in near and "<mark>12</mark>" in near


def test_texts_are_escaped_and_cut_short(page: str) -> None:
    assert "<script" not in page and "<b>bold" not in page and "\x1b" not in page
    assert "&lt;script&gt;alert(&#x27;boo&#x27;)&lt;/script&gt; &amp; &lt;b&gt;bold&lt;/b&gt; �[31m" in page
    assert "Begin. again and again" in page and "FAR-END-OF-A-LONG-TEXT" not in page
    assert len(page.encode()) < 200_000


def test_quarantined_records_are_listed_with_place_and_reason(tables: Tables) -> None:
    assert [
        (r["reason"], r["source"], r["records"]) for r in tables.table("Records that could not be read")
    ] == [
        ("malformed_json", "web", "1"),
        ("missing_text", "web", "1"),
    ]
    first, second = tables.table("Where they are")
    assert (first["file"], first["line"], first["detail"], first["begins"]) == (
        "a.jsonl",
        "4",
        "expected ','",
        '{"text": <b>',
    )
    assert (second["line"], second["detail"]) == ("9", "")


def test_the_page_says_what_it_was_made_from(tables: Tables, page: str) -> None:
    assert [(r["path"], r["sha256"]) for r in tables.table("What was read")] == [
        ("a.jsonl", "ab" * 32),
        ("b.parquet", "cd" * 32),
    ]
    assert [(r["path"], r["rows"], r["sha256"]) for r in tables.table("What was made")] == [
        ("kept/part-000000.parquet", "19", "ef" * 32)
    ]
    assert "seed: 17" in page


def test_the_same_run_gives_the_same_bytes_wherever_it_lies_and_however_it_is_cut_into_parts(
    tmp_path: Path, toy: SimpleNamespace
) -> None:
    digests = {
        hashlib.sha256(write_report(toy.write(tmp_path / name, parts=parts)).read_bytes()).hexdigest()
        for name, parts in (("one", 1), ("another", 1), ("three", 3), ("seven", 7))
    }
    assert len(digests) == 1


def test_a_run_without_signals_pairs_quarantine_and_policy_has_a_report(
    tmp_path: Path, toy: SimpleNamespace
) -> None:
    run = toy.write(
        tmp_path / "run",
        without=("signals", "pairs", "decisions", "quarantine"),
        kept=list(toy.texts()),
        changes={
            "config": {},
            "dedup": None,
            "quality": None,
            "warnings": [],
            "counts": {
                s: {"read": n, "quarantined": 0, "documents": n, "dropped": 0, "kept": n}
                for s, n in toy.sizes.items()
            },
        },
    )
    page = write_report(run).read_text(encoding="utf-8")
    assert "30 of 30 records are kept (100%)." in page
    assert "Nothing was dropped." in page and "Every record could be read." in page
    assert "Duplicates were not looked for in this run." in page and "Quality was not measured" in page


def test_a_histogram_says_its_bars_and_how_many_values_are_missing(page: str, toy: SimpleNamespace) -> None:
    chart = page[page.index("<title>Histogram of word_count</title>") :]
    counts = re.findall(r"kept (\d+), dropped (\d+)</title>", chart[: chart.index("</svg>")])
    assert sum(int(kept) + int(dropped) for kept, dropped in counts) == len(toy.signals()) - 1
    assert "1 without a value" in page


def test_a_run_that_does_not_add_up_has_no_report(tmp_path: Path, toy: SimpleNamespace) -> None:
    counts = toy.manifest()["counts"]
    counts["web"]["read"] += 1
    run = toy.write(tmp_path / "run", changes={"counts": counts})
    with pytest.raises(RunError, match=r"read is 25 but quarantined \+ documents is 24"):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("unverified", [0, 1, 3])
def test_a_removed_duplicate_without_a_verified_pair_is_called_out(
    tmp_path: Path, toy: SimpleNamespace, unverified: int
) -> None:
    pairs = [toy.pair(8, 7, 1, "exact"), toy.pair(9, 7, 1, "exact"), toy.pair(11, 10, 0.8, "minhash")]
    page = write_report(toy.write(tmp_path / "run", pairs=pairs[unverified:])).read_text(encoding="utf-8")
    assert (f"removed, {unverified} NOT verified: 2 exact, 1 near" in page) == bool(unverified)
    assert ("removed, all verified" in page) == (not unverified)
    assert (
        f"{unverified} removed documents have no verified pair with a document that stayed." in page
    ) == bool(unverified)


@pytest.mark.parametrize("name", ["run[1]", "run*", "run?", "[!a]"])
def test_a_folder_whose_name_looks_like_a_pattern_has_the_same_report(
    tmp_path: Path, page: str, toy: SimpleNamespace, name: str
) -> None:
    everything = list(toy.texts())
    toy.write(tmp_path / "run1" / "run", parts=2, kept=everything)  # another run, which the name would match
    written = write_report(toy.write(tmp_path / name / "run", parts=2)).read_text(encoding="utf-8")
    assert written == page


def test_a_directory_without_a_manifest_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no manifest\.json"):
        write_report(tmp_path)


def test_a_manifest_of_a_newer_format_is_refused(tmp_path: Path, toy: SimpleNamespace) -> None:
    with pytest.raises(DataError, match="format 99"):
        write_report(toy.write(tmp_path / "run", changes={"format": 99}))
