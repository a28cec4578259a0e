"""The chapter of a curated run's report on duplicates: how they were looked for, what was removed for what, what is left.

The search is shown as its curve (which pairs are looked at), the comparison as a histogram of exact similarities and as
pairs side by side, the result as the residual rate among the kept documents, which is measured and not assumed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate import charts, findings, html
from curate.findings import Example, PairTexts, RuleCount, Verified

EXCERPT = 300
"""Characters of a text that an example shows, about."""

CLUSTERS = 10
"""Largest clusters that are listed."""

_CONTEXT = 12
"""Words that are shown before and after a difference."""

_COMPARED = 600
"""Words of each text that are aligned behind the place where they begin to differ."""

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORDS = re.compile(rf"\s*(?:[{_UNSPACED}]|[^\s{_UNSPACED}]+)|\s+$")
"""Words with the blanks before them; of scripts without spaces, characters."""

Json = Any
_Run = tuple[str, int, int]
"""Words ``[start, stop)`` of a text: equal, replace, delete or insert, as ``difflib`` says; or cut."""


def duplicates_section(
    run: Path,
    manifest: Mapping[str, Json],
    verified: Verified,
    rules: Sequence[RuleCount],
    examples: Mapping[str, Sequence[Example]],
    texts: PairTexts,
) -> list[html.Content]:
    """What stands under the heading "Duplicates"; nothing where none were looked for.

    Args:
        examples: decisions to show as pairs, by rule.
        texts: their texts, as far as they are known.
    """
    dedup = manifest.get("dedup")
    if not dedup:
        return []
    return [
        *_notices(dedup, verified),
        *_figures(run, dedup),
        *_residual(dedup.get("residual"), texts),
        *_index(dedup.get("index")),
        _search(dedup),
        *_clusters(run),
        *_pairs(examples, {rule.rule: rule.failing for rule in rules}, texts),
    ]


def _notices(dedup: Mapping[str, Json], verified: Verified) -> list[html.Content]:
    found: list[html.Content] = []
    if verified.removed > verified.confirmed:
        found.append(html.notice(f"{html.number(verified.removed - verified.confirmed)} removed documents have no verified pair with a document that stayed.", "bad"))  # fmt: skip
    if dedup.get("capped_buckets"):
        found.append(html.notice(f"{html.number(dedup['capped_buckets'])} buckets were too large to compare all pairs in them (the largest has {html.number(dedup.get('largest_bucket'))} documents); some near duplicates may remain.", "lost"))  # fmt: skip
    return found


# -- how pairs were found ------------------------------------------------------------------------------------------------


def _figures(run: Path, dedup: Mapping[str, Json]) -> list[html.Content]:
    similarity = findings.count_similarities(run)
    threshold = float(dedup.get("threshold") or 0.0)
    figures = []
    if len(dedup.get("curve") or []) > 1:
        figures.append(_curve(dedup, threshold))
    if similarity:
        figures.append(
            html.figure(
                "Exact similarity of the compared pairs that were recorded. Pairs right of the line are duplicates; "
                "near misses both stay.",
                _similarities(similarity, threshold),
            )
        )
    return [html.grid(figures)] if figures else []


def _curve(dedup: Mapping[str, Json], threshold: float) -> html.Html:
    xs, ys = zip(*((float(x), float(y)) for x, y in dedup["curve"]), strict=True)
    at = float(np.interp(threshold, xs, ys))
    lines = [charts.Line("this run", xs, ys)]
    note = (
        f"{dedup.get('bands')} bands of {dedup.get('rows')} rows: a pair at the threshold becomes a candidate "
        f"with probability {html.number(at, 3)}. Candidates are then compared exactly, so the curve bounds what is "
        "found, not what is wrongly removed."
    )
    balanced = dedup.get("balanced")
    if balanced:
        other = [1 - (1 - x ** balanced["rows"]) ** balanced["bands"] for x in xs]
        lines.append(charts.Line("datasketch's balanced choice", xs, other))
        note += (
            f" datasketch would choose {balanced['bands']} bands of {balanced['rows']} rows, which weigh misses and "
            f"false candidates alike, and find {html.number(float(np.interp(threshold, xs, other)), 3)} of those pairs."
        )
    return html.figure(
        note,
        charts.line_chart(
            "Chance that a pair is looked at",
            lines,
            x_label="Jaccard similarity of the shingles",
            y_label="probability",
            marks=[charts.Mark(threshold, f"threshold {html.compact(threshold)}")],
            y_range=(0.0, 1.0),
            height=170,
        ),
    )


def _similarities(by: Mapping[str, npt.NDArray[np.int64]], threshold: float) -> html.Html:
    first = min(int(np.flatnonzero(sum(by.values()))[0]), int(threshold * 50))
    return charts.histogram(
        "Similarity of compared pairs",
        edges=[i / 50 for i in range(first, 51)],
        layers=[
            charts.Layer("near misses", by.get("near_miss", np.zeros(50, np.int64))[first:].tolist(), "kept"),
            charts.Layer("duplicates", by.get("duplicate", np.zeros(50, np.int64))[first:].tolist(), "lost"),
        ],
        cuts=[charts.Cut(threshold, "above", f"threshold {html.compact(threshold)}")],
        unit="pairs",
    )


def _search(dedup: Mapping[str, Json]) -> html.Html:
    names = {
        "compared_pairs": "pairs compared",
        "verified_pairs": "pairs whose similarity was computed",
        "threshold": "similarity threshold",
        "similarity": "similarity",
        "near_miss": "near misses from",
        "ngram": "words in a shingle",
        "bands": "bands",
        "rows": "rows in a band",
        "hash_family": "hash family",
        "capped_buckets": "buckets cut for their size",
        "largest_bucket": "documents in the largest bucket",
    }
    facts: list[list[html.Cell]] = [[shown, dedup[key]] for key, shown in names.items() if dedup.get(key) is not None]  # fmt: skip
    clusters = dedup.get("clusters") or {}
    if clusters.get("clusters") is not None:
        facts.append(["clusters of candidates", clusters["clusters"]])
        facts.append(["documents in the largest of them", clusters.get("largest")])
    sizes = dedup.get("bytes_per_document") or {}
    facts += [[f"bytes a document on disk: {name}", size] for name, size in sizes.items()]
    return html.details(
        "How duplicates were looked for",
        html.table(["search", "value"], facts, align="lr", caption="How candidates were found."),
    )


def _clusters(run: Path) -> list[html.Content]:
    clusters = findings.largest_clusters(run, CLUSTERS)
    if not clusters:
        return []
    rows: list[list[html.Cell]] = [
        [html.inline_code(c.key[1]), c.key[0], c.exact + c.near, c.exact, c.near, html.number(c.lowest, 3)]
        for c in clusters
    ]
    return [
        html.table(
            ["document that stays", "source", "removed for it", "exact", "near", "least similar"],
            rows,
            align="llrrrr",
            caption=f"The {CLUSTERS} documents for which the most others were removed."
            if len(clusters) == CLUSTERS
            else "The documents for which others were removed.",
        )
    ]


# -- what is left, and what was there before ------------------------------------------------------------------------------


def _residual(residual: Mapping[str, Json] | None, texts: PairTexts) -> list[html.Content]:
    if not residual:
        return []
    sampled, found = residual["sampled"], residual["with_near_duplicate"]
    is_all = sampled == residual["kept"] - residual["without_words"]
    interval = (
        f", 95% interval {html.percent(round(residual['low'], 9), 1)} to {html.percent(residual['high'], 1)}"
    )
    body: list[html.Content] = [
        html.subheading("What is left"),
        html.paragraph(
            html.strong(f"{html.number(found)} of {html.number(sampled)} kept documents ({html.percent(found, sampled)}{'' if is_all else interval})"),
            f" have a near duplicate among all {html.number(residual['kept'])} kept documents. "
            + ("Every kept document that has words" if is_all else "A random sample of the kept documents")
            + f" was compared with all others, without bands: {html.number(residual['candidates'])} pairs exactly, which 64 bytes of each "
            "document's signature proposed; a pair at the threshold is not proposed with probability "
            f"{html.compact(residual['missed_probability'])}.",
        ),
    ]  # fmt: skip
    examples = residual_examples(residual)
    if examples:
        cards = [pair_card(example, texts) for example in examples]
        body.append(html.details(f"The {len(cards)} most similar of these pairs", *cards))
    return body


def residual_examples(residual: Mapping[str, Json] | None) -> list[Example]:
    """The pairs of kept documents that a manifest names as near duplicates of each other."""
    if not residual:
        return []
    return [
        Example(
            key=(pair["source"], pair["id"]),
            stage="residual",
            value=None,
            bound=residual["threshold"],
            partner=(pair["partner_source"], pair["partner_id"]),
            similarity=pair["similarity"],
            span=None,
            detail=None,
            near_miss=True,
        )
        for pair in residual["examples"]
    ]


def _index(index: Mapping[str, Json] | None) -> list[html.Content]:
    if not index:
        return []
    base = index.get("base") or []
    rows: list[list[html.Cell]] = [
        [html.inline_code(g["digest"][:12]), g["documents"], "compared with this run"] for g in base
    ]
    if index.get("generation"):
        rows.append([html.inline_code(index["generation"]), index["documents"], "added by this run"])
    if not rows:
        return []
    return [
        html.table(
            ["generation of the index", "documents", "what it is"],
            rows[-2 * CLUSTERS :],
            align="lrl",
            caption=f"The persistent index: {html.number(index['compared_with'])} documents that earlier runs kept were "
            "there before; none of them is ever removed."
            + (f" The last {2 * CLUSTERS} of {len(rows)} generations." if len(rows) > 2 * CLUSTERS else ""),
        )
    ]


# -- pairs side by side -----------------------------------------------------------------------------------------------------


def _pairs(
    examples: Mapping[str, Sequence[Example]], failing: Mapping[str, int], texts: PairTexts
) -> list[html.Content]:
    if not examples:
        return []
    body: list[html.Content] = [
        html.subheading("Pairs side by side"),
        "Of every rule the two pairs nearest to its bound and the one farthest from it; words that the other text "
        "lacks are marked.",
    ]
    for name, group in examples.items():
        is_near = group[0].stage != "exact"
        count = f": {html.number(failing[name])} documents" if name in failing else ""
        body.append(
            html.details(name + count, *[pair_card(example, texts) for example in group], is_open=is_near)
        )
    return body


def pair_card(example: Example, texts: PairTexts) -> html.Html:
    """A document beside its partner, with the words marked in which they differ."""
    assert example.partner is not None
    heading = html.fragment(html.inline_code(example.key[1]), f" of {example.key[0]}", example.measured)
    fate = "also kept" if example.near_miss else "removed"
    names = [f"{label}: {source} / {id_}" for label, (source, id_) in ((fate, example.key), ("stays", example.partner))]  # fmt: skip
    if example not in texts:
        return html.card(
            heading, html.paragraph(", ".join(names)), html.paragraph("The run holds no text of them.")
        )
    return html.card(heading, html.side_by_side(list(zip(names, differences(*texts[example]), strict=True))))


def _beginning(text: str) -> str:
    return text[:EXCERPT] + ("…" if len(text) > EXCERPT else "")


def differences(left: str, right: str) -> tuple[html.Html, html.Html]:
    """The passages in which two texts differ, with the words marked that the other lacks; equal stretches are left out.

    White space makes no difference, as it makes none to the similarity.

    >>> [side.source for side in differences("the same old words", "the same new words")]
    ['the same <mark>old</mark> words', 'the same <mark>new</mark> words']
    """
    words = [_WORDS.findall(text) for text in (left, right)]
    bare = [[word.strip().strip("\ufeff") for word in side] for side in words]
    start = next((i for i, (a, b) in enumerate(zip(*bare, strict=False)) if a != b), min(map(len, words)))
    if start == len(words[0]) == len(words[1]):
        return html.fragment(_beginning(left)), html.fragment(_beginning(right))
    ends = [len(w) - start for w in words]
    same = 0
    while same < min(ends) and bare[0][-1 - same] == bare[1][-1 - same]:
        same += 1
    middle = [w[start : min(len(w) - same, start + _COMPARED)] for w in bare]
    matcher = difflib.SequenceMatcher(None, middle[0], middle[1], autojunk=False)
    sides: tuple[list[_Run], list[_Run]] = ([], [])
    if start:
        for side in sides:
            side.append(("equal", 0, start))
    for kind, a, b, c, d in matcher.get_opcodes():
        sides[0].append((kind, start + a, start + b))
        sides[1].append((kind, start + c, start + d))
    tails = [start + len(m) for m in middle]
    is_cut = any(tail + same < len(w) for tail, w in zip(tails, words, strict=True))
    if is_cut or same:
        for side, tail, own in zip(sides, tails, words, strict=True):
            side.append(("cut" if is_cut else "equal", tail, len(own)))
    return _passages(words[0], sides[0]), _passages(words[1], sides[1])


def _passages(words: Sequence[str], runs: Sequence[_Run]) -> html.Html:
    """One side of a comparison: runs of words that differ are marked, long runs that agree are cut to their ends."""
    parts: list[html.Content] = []
    length = 0
    for number, (kind, start, stop) in enumerate(runs):
        if length > 3 * EXCERPT or kind == "cut":
            parts.append(" …")
            break
        if kind == "equal":
            shown = _shortened(words[start:stop], is_first=number == 0, is_last=number == len(runs) - 1)
            parts.append(shown)
            length += len(shown)
        else:
            text = "".join(words[start:stop])[: 2 * EXCERPT]
            blank = len(text) - len(text.lstrip())
            parts += (
                [text[:blank], html.marked(text[blank:], 0, len(text) - blank)] if text.strip() else [text]
            )
            length += len(text)
    return html.fragment(*parts)


def _shortened(words: Sequence[str], *, is_first: bool, is_last: bool) -> str:
    before = words[:0] if is_first else words[:_CONTEXT]
    after = words[:0] if is_last else words[-_CONTEXT:]
    if len(words) > len(before) + len(after):
        return (
            "".join(before)[: 2 * EXCERPT] + ("" if is_first else " ") + "…" + "".join(after)[-2 * EXCERPT :]
        )
    text = "".join(words)
    return text if len(text) <= 4 * EXCERPT else text[: 2 * EXCERPT] + " … " + text[-2 * EXCERPT :]
