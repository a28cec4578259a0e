"""The report of a curated run, written from a small run directory whose every number is known by hand.

The run: 30 documents of two sources; who is dropped where is the table ``DROPS``.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.report import write_report
from curate.schema import DECISIONS, PAIRS, QUARANTINE, documents_schema
from filters.errors import ConfigError, DataError, RunError

FACTS = ["the harbour opened in 1898 and closed in 1971", "rye is sown in autumn", "the tower has nine bells"]


def text_of(source: str, number: int) -> str:
    if source == "books":
        return (
            f"Chapter {number}. Of this {FACTS[number % 3]}, and they have told it to the end of the book. "
            * 6
        )
    return f"Page {number} of the site. It is said that {FACTS[number % 3]} with all that follows. " * 4


# (source, number): rows of decisions; everything that is not here is kept.
DROPS: dict[tuple[str, int], list[dict[str, Any]]] = {
    ("web", 0): [{"rule": "gopher.word_count.min", "value": 12, "bound": 50}],
    ("web", 1): [{"rule": "gopher.word_count.min", "value": 49, "bound": 50}],
    ("web", 2): [
        {"rule": "gopher.word_count.min", "value": 3, "bound": 50},
        {"rule": "gopher_repetition.top_2gram_char_ratio.max", "value": 0.6, "bound": 0.2},
        {"stage": "language", "rule": "language.min_score", "value": 0.1, "bound": 0.5},
    ],
    ("web", 3): [{"rule": "gopher_repetition.top_2gram_char_ratio.max", "value": 0.25, "bound": 0.2}],
    ("web", 4): [
        {"stage": "language", "rule": "language.min_score", "value": 0.3, "bound": 0.5, "detail": "sure by 0.3"},
        {"stage": "quality", "rule": "quality.min_score", "value": 0.02, "bound": 0.05},
    ],
    ("web", 5): [{"stage": "quality", "rule": "quality.min_score", "value": 0.01, "bound": 0.05}],
    ("web", 6): [
        {
            "stage": "decontaminate",
            "rule": "decontaminate.ngram_overlap",
            "value": 4,
            "bound": 1,
            "partner_source": "gsm8k",
            "partner_id": "test-7",
            "span_start": 24_027,
            "span_end": 24_045,
        }
    ],
    ("web", 8): [{"stage": "exact", "rule": "exact.content_hash", "similarity": 1.0, "bound": 1.0, "partner": 7}],
    ("web", 9): [{"stage": "exact", "rule": "exact.content_hash", "similarity": 1.0, "bound": 1.0, "partner": 7}],
    ("web", 11): [{"stage": "minhash", "rule": "minhash.jaccard", "similarity": 0.9, "bound": 0.8, "partner": 10}],
    ("books", 0): [{"rule": "gopher.word_count.min", "value": 30, "bound": 50}],
}  # fmt: skip
FLAGS = {
    ("web", 13): {"stage": "minhash", "rule": "minhash.jaccard", "action": "near_miss", "similarity": 0.7, "bound": 0.8, "partner": 12},
    ("books", 1): {"stage": "normalize", "rule": "normalize.mojibake", "action": "edit", "span_start": 0, "span_end": 2},
}  # fmt: skip
SIZES = {"web": 22, "books": 8}
# first stages: web 4 policy, 1 language, 1 quality, 1 decontaminate, 2 exact, 1 minhash; books 1 policy
KEPT = {"web": 12, "books": 7}


def texts() -> dict[tuple[str, int], str]:
    found = {(source, n): text_of(source, n) for source, size in SIZES.items() for n in range(size)}
    for n in (8, 9):
        found["web", n] = found["web", 7]
    found["web", 11] = found["web", 10] + "This mirror adds one line of its own."
    found["web", 1] = "<script>alert('boo')</script> & <b>bold</b> \x1b[31m"
    found["web", 2] = "Begin. " + "again and " * 4000 + "FAR-END-OF-A-LONG-TEXT"
    found["web", 6] = (
        "far in. " * 3000 + "A question of a known set: how many eggs are left? " + found["web", 6]
    )
    return found


def signals() -> list[dict[str, Any]]:
    rows = []
    for (source, n), text in texts().items():
        row = {
            "id": f"d{n:02d}", "source": source, "word_count": len(text.split()) + 40, "top_2gram_char_ratio": 0.01 * n,
            "language": "de" if n % 5 == 4 else "en", "language_score": 0.9, "quality": 0.04 * n + 0.06,
        }  # fmt: skip
        row["word_count"] = {("web", 15): 50, ("web", 16): None}.get((source, n), row["word_count"])
        row["top_2gram_char_ratio"] = {("web", 20): 0.2, ("web", 21): 0.2}.get((source, n), 0.001 * n)
        for decision in DROPS.get((source, n), []):
            name = {"language.min_score": "language_score", "quality.min_score": "quality"}.get(
                decision["rule"]
            )
            signal = name or decision["rule"].split(".")[1]
            if signal in row:
                row[signal] = decision["value"]
        rows.append(row)
    return rows


def decisions() -> list[dict[str, Any]]:
    rows = []
    for (source, n), listed in DROPS.items():
        for decision in listed:
            rows.append(
                {"id": f"d{n:02d}", "source": source, "stage": "policy", "action": "drop", **decision}
            )
    for (source, n), decision in FLAGS.items():
        rows.append({"id": f"d{n:02d}", "source": source, **decision})
    for row in rows:
        if "partner" in row:
            row |= {"partner_source": row["source"], "partner_id": f"d{row.pop('partner'):02d}"}
    return rows


def manifest() -> dict[str, Any]:
    dropped = {source: SIZES[source] - KEPT[source] for source in SIZES}
    return {
        "format": 1,
        "kind": "curated",
        "config": {
            "seed": 17,
            "sources": {"web": {"path": "data/web/*.jsonl"}, "books": {"path": "data/books/*.parquet"}},
            "policy": {
                "use": ["gopher", "gopher_repetition"],
                "language": {"min_score": 0.5},
                "quality": {"min_score": 0.05},
            },
        },
        "inputs": [{"source": "web", "path": "a.jsonl", "sha256": "ab" * 32}, {"source": "books", "path": "b.parquet", "sha256": "cd" * 32}],
        "parents": [],
        "counts": {
            "web": {"read": 24, "quarantined": 2, "documents": 22, "dropped": dropped["web"], "kept": KEPT["web"]},
            "books": {"read": 8, "quarantined": 0, "documents": 8, "dropped": dropped["books"], "kept": KEPT["books"]},
        },
        "shards": {"kept": [{"path": "kept/part-000000.parquet", "rows": 19, "sha256": "ef" * 32}]},
        "dedup": {
            "bands": 20, "rows": 6, "threshold": 0.8, "ngram": 5, "capped_buckets": 0, "verified_pairs": 4,
            "curve": [[s / 10, 1 - (1 - (s / 10) ** 6) ** 20] for s in range(11)],
        },
        "quality": {"auc": 0.912, "positives": 100},
        "warnings": ["web: empty.jsonl holds no record."],
    }  # fmt: skip


def write_run(
    run: Path,
    *,
    changes: Mapping[str, Any] | None = None,
    parts: int = 1,
    without: Sequence[str] = (),
    kept: Sequence[tuple[str, int]] | None = None,
    extra: Sequence[dict[str, Any]] = (),
    pairs: Sequence[dict[str, Any]] | None = None,
) -> Path:
    """The run directory; ``changes`` replaces top-level entries of the manifest."""
    documents = [{"id": f"d{n:02d}", "source": s, "text": t} for (s, n), t in texts().items()]
    stays = kept if kept is not None else [key for key in texts() if key not in DROPS]
    rows = decisions()
    linked = [
        {
            **{name: row[name] for name in ("id", "source", "partner_id", "partner_source", "similarity")},
            "method": row["stage"],
            "outcome": "duplicate" if row["action"] == "drop" else "near_miss",
        }
        for row in rows
        if row["stage"] in ("exact", "minhash")
    ]
    quarantine = [
        {"source": "web", "path": "a.jsonl", "row": 3, "line": 4, "reason": "malformed_json", "detail": "expected ','", "excerpt": '{"text": <b>'},
        {"source": "web", "path": "a.jsonl", "row": 9, "line": None, "reason": "missing_text", "detail": None, "excerpt": None},
    ]  # fmt: skip
    signal_types = [("id", pa.string()), ("source", pa.string()), ("word_count", pa.int64()), ("top_2gram_char_ratio", pa.float64()), ("language", pa.string()), ("language_score", pa.float64()), ("quality", pa.float64())]  # fmt: skip
    tables = {
        "documents": pa.Table.from_pylist(documents, documents_schema([])),
        "kept": pa.Table.from_pylist([d for d in documents if (d["source"], int(d["id"][1:])) in stays], documents_schema([])),
        "signals": pa.Table.from_pylist(signals(), pa.schema(signal_types)),
        "decisions": pa.Table.from_pylist([*rows, *extra], DECISIONS),
        "pairs": pa.Table.from_pylist(linked if pairs is None else list(pairs), PAIRS),
        "quarantine": pa.Table.from_pylist(quarantine, QUARANTINE),
    }  # fmt: skip
    for name, table in tables.items():
        if name in without:
            continue
        (run / name).mkdir(parents=True, exist_ok=True)
        size = -(-table.num_rows // parts)
        for part in range(parts):
            pq.write_table(
                table.slice(part * size, size), run / name / f"part-{part:06d}.parquet", compression="zstd"
            )
    (run / "manifest.json").write_text(json.dumps({**manifest(), **(changes or {})}), encoding="utf-8")
    return run


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
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(write_run(tmp_path_factory.mktemp("run"))).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tables(page: str) -> Tables:
    return Tables(page)


def bins(page: str, signal: str) -> list[tuple[float, float, int, int]]:
    """The bars of a signal's histogram: from, to, kept, dropped."""
    chart = page[page.index(f"<title>Histogram of {signal}</title>") :]
    chart = chart[: chart.index("</svg>")]
    found = re.findall(r"<g><title>([^<]+) to ([^<]+): kept (\d+), dropped (\d+)</title>", chart)
    return [(float(a.replace(",", "")), float(b.replace(",", "")), int(k), int(d)) for a, b, k, d in found]


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


def test_a_histogram_counts_every_document_once_and_no_bar_straddles_a_cut(page: str) -> None:
    rows = signals()
    for signal, bound, below in (
        ("word_count", 50, True),
        ("top_2gram_char_ratio", 0.2, False),
        ("language_score", 0.5, True),
    ):
        values = [row[signal] for row in rows if row[signal] is not None]
        found = bins(page, signal)
        assert sum(kept + dropped for _, _, kept, dropped in found) == len(values)
        assert not [1 for low, high, _, _ in found if low < bound < high]
        beyond = sum(k + d for low, high, k, d in found if (high <= bound if below else low >= bound))
        assert beyond == sum(value < bound if below else value > bound for value in values)
    assert "1 without a value" in page


def test_a_value_equal_to_its_bound_is_drawn_on_the_kept_side(page: str) -> None:
    assert [k for low, _, k, _ in bins(page, "word_count") if low == 50] == [1]
    # two kept documents have exactly the greatest allowed ratio: no kept bar begins at the cut
    beyond = [kept for low, _, kept, _ in bins(page, "top_2gram_char_ratio") if low >= 0.2]
    assert sum(beyond) == 0
    assert sum(kept for _, high, kept, _ in bins(page, "top_2gram_char_ratio") if high == 0.2) == 2


def test_languages_say_how_many_documents_stay(page: str) -> None:
    section = page[page.index('id="languages"') : page.index('id="duplicates"')]
    labels = re.findall(r'class="label">([^<]*)</span>.*?class="value">([^<]*)</span>', section)
    german = [key for key in texts() if key[1] % 5 == 4]
    stays = [key for key in german if key not in DROPS]
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


def test_an_example_of_contamination_marks_the_passage(page: str) -> None:
    text = texts()["web", 6]
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
    tmp_path: Path,
) -> None:
    digests = {
        hashlib.sha256(write_report(write_run(tmp_path / name, parts=parts)).read_bytes()).hexdigest()
        for name, parts in (("one", 1), ("another", 1), ("three", 3), ("seven", 7))
    }
    assert len(digests) == 1


def test_a_run_without_signals_pairs_quarantine_and_policy_has_a_report(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run",
        without=("signals", "pairs", "decisions", "quarantine"),
        kept=list(texts()),
        changes={
            "config": {},
            "dedup": None,
            "quality": None,
            "warnings": [],
            "counts": {
                s: {"read": n, "quarantined": 0, "documents": n, "dropped": 0, "kept": n}
                for s, n in SIZES.items()
            },
        },
    )
    page = write_report(run).read_text(encoding="utf-8")
    assert "30 of 30 records are kept (100%)." in page
    assert "Nothing was dropped." in page and "Every record could be read." in page
    assert "Duplicates were not looked for in this run." in page and "Quality was not measured" in page


def counts_with(source: str, **wrong: int) -> dict[str, Any]:
    counts = copy.deepcopy(manifest()["counts"])
    counts[source] |= wrong
    return {"counts": counts}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (counts_with("web", read=25), "source 'web': read is 25 but quarantined + documents is 24"),
        (counts_with("web", kept=13), "source 'web': documents is 22 but dropped + kept is 23; source 'web': kept is 13 but rows in kept/ is 12"),
        (counts_with("books", dropped=2, kept=6), "source 'books': dropped is 2 but documents with a drop in decisions/ is 1"),
        (counts_with("web", quarantined=1, read=23), "source 'web': quarantined is 1 but rows in quarantine/ is 2"),
        (counts_with("books", documents=9, read=9, kept=8), "source 'books': documents is 9 but rows in documents/ is 8"),
        ({"counts": {"web": manifest()["counts"]["web"]}}, "source 'books' is not in the manifest"),
        ({"counts": {**manifest()["counts"], "books": {"read": 8}}}, "source 'books' has no count 'quarantined' in the manifest"),
    ],
)  # fmt: skip
def test_numbers_that_do_not_add_up_fail_the_run(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    run = write_run(tmp_path / "run", changes=changes)
    with pytest.raises(RunError, match=re.escape(message)):
        write_report(run)
    assert not (run / "report.html").exists()


def test_a_kept_document_with_a_drop_fails_the_run_even_where_the_counts_agree(tmp_path: Path) -> None:
    stays = [key for key in texts() if key not in DROPS and key != ("web", 21)]
    run = write_run(tmp_path / "run", kept=[*stays, ("web", 0)])
    with pytest.raises(RunError, match="1 kept documents have a drop in decisions/"):
        write_report(run)


def test_a_drop_at_an_unknown_stage_fails_the_run(tmp_path: Path) -> None:
    row = {"id": "d20", "source": "web", "stage": "whim", "rule": "whim.none", "action": "drop"}
    with pytest.raises(RunError, match="drops at stage 'whim'; allowed: normalize, policy, language"):
        write_report(write_run(tmp_path / "run", extra=[row]))


def pair(number: int, partner: int, similarity: float, method: str) -> dict[str, Any]:
    key = {"id": f"d{number:02d}", "source": "web", "partner_id": f"d{partner:02d}", "partner_source": "web"}
    return {**key, "similarity": similarity, "method": method, "outcome": "duplicate"}


@pytest.mark.parametrize(
    ("pairs", "unverified"),
    [
        ([pair(8, 7, 1, "exact"), pair(9, 7, 1, "exact"), pair(11, 10, 0.8, "minhash")], 0),
        ([pair(8, 7, 1, "exact"), pair(9, 7, 1, "exact"), pair(11, 10, 0.79, "minhash")], 1),
        ([pair(8, 7, 1, "exact"), pair(11, 12, 0.9, "minhash")], 2),
        ([], 3),
    ],
)
def test_a_removed_duplicate_without_a_verified_pair_is_called_out(
    tmp_path: Path, pairs: list[dict[str, Any]], unverified: int
) -> None:
    page = write_report(write_run(tmp_path / "run", pairs=pairs)).read_text(encoding="utf-8")
    assert (f"removed, {unverified} NOT verified: 2 exact, 1 near" in page) == bool(unverified)
    assert ("removed, all verified" in page) == (not unverified)
    assert (
        f"{unverified} removed documents have no verified pair with a document that stayed." in page
    ) == bool(unverified)


def test_a_near_duplicate_whose_partner_was_dropped_as_well_is_not_verified(tmp_path: Path) -> None:
    changes = copy.deepcopy(DROPS["web", 11][0])
    changes["partner"] = 5  # dropped by the quality stage
    row = {"id": "d11", "source": "web", "action": "drop", **changes}
    row |= {"partner_source": "web", "partner_id": f"d{row.pop('partner'):02d}"}
    run = write_run(
        tmp_path / "run", pairs=[pair(8, 7, 1, "exact"), pair(9, 7, 1, "exact"), pair(11, 5, 0.9, "minhash")]
    )
    table = pq.read_table(run / "decisions" / "part-000000.parquet").to_pylist()
    table = [row if (r["source"], r["id"], r["stage"]) == ("web", "d11", "minhash") else r for r in table]
    pq.write_table(pa.Table.from_pylist(table, DECISIONS), run / "decisions" / "part-000000.parquet")
    assert "1 NOT verified" in write_report(run).read_text(encoding="utf-8")


def test_a_directory_without_a_manifest_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no manifest\.json"):
        write_report(tmp_path)


def test_a_manifest_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="format 99"):
        write_report(write_run(tmp_path / "run", changes={"format": 99}))
