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


def section(page: str, name: str) -> str:
    start = page.index(f'<section id="{name}"')
    return page[start : page.index("</section>", start)]


def test_the_bands_that_datasketch_would_choose_stand_beside_ours(
    tmp_path: Path, page: str, toy: SimpleNamespace
) -> None:
    dedup = {**toy.manifest()["dedup"], "balanced": {"bands": 9, "rows": 13}}
    both = section(
        write_report(toy.write(tmp_path / "run", changes={"dedup": dedup})).read_text(), "duplicates"
    )
    # 1 - (1 - 0.8 ** 13) ** 9
    assert "datasketch would choose 9 bands of 13 rows, which weigh misses and false candidates alike, and find 0.399 of those pairs." in both.replace("\n", " ")  # fmt: skip
    assert both.count("<polyline") == 2
    assert "</i>datasketch&#x27;s balanced choice</li>" in both
    assert section(page, "duplicates").count("<polyline") == 1


def test_the_documents_for_which_most_were_removed_are_listed(tables: Tables) -> None:
    rows = tables.table("The documents for which others were removed")
    assert [(r["document that stays"], r["removed for it"], r["exact"], r["near"], r["least similar"]) for r in rows] == [
        ("d07", "2", "2", "0", "1.000"),
        ("d10", "1", "0", "1", "0.900"),
    ]  # fmt: skip


def test_buckets_that_were_too_large_are_called_out(tmp_path: Path, toy: SimpleNamespace) -> None:
    dedup = {**toy.manifest()["dedup"], "capped_buckets": 3, "largest_bucket": 1234}
    page = write_report(toy.write(tmp_path / "run", changes={"dedup": dedup})).read_text()
    assert "3 buckets were too large to compare all pairs in them (the largest has 1,234 documents)" in page


def test_the_generations_of_an_index_are_listed(tmp_path: Path, toy: SimpleNamespace) -> None:
    index = {
        "generation": "000003-abcdefabcdef", "documents": 19, "compared_with": 30, "parent": "5678" * 16,
        "base": [
            {"generation": 1, "digest": "1234" * 16, "documents": 10},
            {"generation": 2, "digest": "5678" * 16, "documents": 20},
        ],
    }  # fmt: skip
    dedup = {**toy.manifest()["dedup"], "index": index}
    page = write_report(toy.write(tmp_path / "run", changes={"dedup": dedup})).read_text()
    rows = Tables(page).table("The persistent index: 30 documents that earlier runs kept")
    assert [tuple(r.values()) for r in rows] == [
        ("123412341234", "10", "compared with this run"),
        ("567856785678", "20", "compared with this run"),
        ("000003-abcdefabcdef", "19", "added by this run"),
    ]


def residual(**changes: object) -> dict[str, object]:
    return {
        "kept": 19, "without_words": 1, "sampled": 10, "with_near_duplicate": 1, "rate": 0.1, "low": 1e-18, "high": 0.404,
        "threshold": 0.8, "similarity": "jaccard", "scope": "across", "agreement": 39, "missed_probability": 6.6e-05,
        "candidates": 7, "capped": 0,
        "examples": [{"id": "d15", "source": "web", "partner_id": "d16", "partner_source": "web", "similarity": 0.91}],
        **changes,
    }  # fmt: skip


def test_the_near_duplicates_that_are_left_are_told_with_their_interval_and_shown(
    tmp_path: Path, toy: SimpleNamespace
) -> None:
    dedup = {**toy.manifest()["dedup"], "residual": residual()}
    page = write_report(toy.write(tmp_path / "run", changes={"dedup": dedup})).read_text()
    said = section(page, "duplicates")
    assert "<strong>1 of 10 kept documents (10.0%, 95% interval 0% to 40.4%)</strong> have a near duplicate among all 19 kept" in said  # fmt: skip
    assert (
        "A random sample of the kept documents was compared with all others, without bands: 7 pairs exactly"
        in said
    )
    shown = said[said.index("<summary>The 1 most similar of these pairs</summary>") :]
    shown = shown[: shown.index("</details>")]
    assert "similarity 0.910, bound 0.8" in shown
    assert "also kept: web / d15" in shown and "stays: web / d16" in shown
    assert "<mark>15</mark>" in shown and "<mark>16</mark>" in shown
    assert ("Residual", "10.0%") in re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)", page)


def test_where_every_kept_document_was_compared_there_is_no_interval(
    tmp_path: Path, toy: SimpleNamespace
) -> None:
    dedup = {**toy.manifest()["dedup"], "residual": residual(sampled=18, with_near_duplicate=0, examples=[])}
    said = section(
        write_report(toy.write(tmp_path / "run", changes={"dedup": dedup})).read_text(), "duplicates"
    )
    assert "<strong>0 of 18 kept documents (0%)</strong>" in said
    assert "Every kept document that has words was compared with all others" in said
    assert "most similar of these pairs" not in said


def test_how_duplicates_were_looked_for_is_told(tmp_path: Path, toy: SimpleNamespace) -> None:
    dedup = {**toy.manifest()["dedup"], "bytes_per_document": {"keys": 176, "sketch": 65}, "clusters": {"clusters": 7, "largest": 5}}  # fmt: skip
    page = write_report(toy.write(tmp_path / "run", changes={"dedup": dedup})).read_text()
    facts = {r["search"]: r["value"] for r in Tables(page).table("How candidates were found")}
    assert facts["bytes a document on disk: keys"] == "176"
    assert (facts["clusters of candidates"], facts["documents in the largest of them"]) == ("7", "5")
    assert (facts["bands"], facts["similarity threshold"]) == ("20", "0.8")


def test_a_run_that_publishes_neither_documents_nor_signals_has_a_report_of_what_it_has(
    tmp_path: Path, toy: SimpleNamespace
) -> None:
    config = {**toy.manifest()["config"], "output": {"documents": False, "kept": False}}
    run = toy.write(tmp_path / "run", without=("documents", "signals", "kept"), changes={"config": config, "quality": None})  # fmt: skip
    page = write_report(run).read_text()
    assert re.findall(r"<h2[^>]*>([^<]*)</h2>", page) == [
        "Result", "Where documents go", "Rules", "Duplicates", "Contamination", "What was dropped, and why",
        "Quarantine", "How to run this again",
    ]  # fmt: skip
    assert "The run holds no text of them." in section(page, "duplicates")
    assert "The run holds no text of this document." in section(page, "what-was-dropped-and-why")
    shards = sorted((toy.write(tmp_path / "full", parts=2) / "documents").iterdir())
    told = write_report(run, shards=shards).read_text()
    assert "holds no text" not in told
    assert "<mark>13</mark>" in section(told, "duplicates")


def test_documents_that_should_be_public_and_are_not_fail_the_run(
    tmp_path: Path, toy: SimpleNamespace
) -> None:
    with pytest.raises(RunError, match=r"documents is 22 but rows in documents/ is 0"):
        write_report(toy.write(tmp_path / "run", without=("documents",)))


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
    assert "No rule drops any document." in page and "Every record could be read." in page
    assert re.findall(r"<h2[^>]*>([^<]*)</h2>", page) == [
        "Result", "Where documents go", "Rules", "Quarantine", "How to run this again",
    ]  # fmt: skip


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
