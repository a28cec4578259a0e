"""The page that a curated run is judged by: RUN/report.html, from what the run directory holds and nothing else.

``curate.findings`` counts, gathers and checks; this module says it in words, tables and charts (``curate.html``,
``curate.charts``), in the order in which a reader asks: what is left, where the rest went, which rule took it, whether
the rule was right (distributions with their cut lines, and the texts themselves), how to run it again.

A page whose numbers would not add up is not written.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from curate import charts, findings, html
from curate.engine import write_atomic
from curate.findings import Example, Funnel, Key, Measured, PairTexts, RuleCount, Verified
from curate.manifest import read_manifest
from curate.report_duplicates import EXCERPT, duplicates_section, residual_examples
from curate.schema import STAGES

TOP = 20
"""Rows of a list that can be long (languages, files, quarantined records) before the page says how many more there are."""

_TONES: dict[str, html.Tone] = dict(zip(STAGES, ("c3", "c2", "c4", "c5", "c6", "c7", "c8"), strict=True))

_LEGEND = html.legend([("kept", "kept"), ("dropped for any reason", "lost")])

Json = Any


def write_report(
    run: Path,
    *,
    shards: Sequence[Path] | None = None,
    pair_texts: Callable[[Sequence[Example]], PairTexts] | None = None,
) -> Path:
    """Write ``RUN/report.html`` of a curated run directory and return its path.

    The same run gives the same bytes.

    Args:
        run: the directory; its public files are all that is counted.
        shards: the run's documents, for a run that does not publish them.
        pair_texts: finds the texts of duplicates and their partners; by default they are looked for in ``shards``.

    Raises:
        ConfigError: ``run`` is not the directory of a curated run.
        DataError: its manifest is of a newer format, or not readable.
        RunError: the run's tables and its manifest contradict each other.
    """
    run = Path(run)
    manifest = read_manifest(run, kind="curated")
    drops = findings.read_drops(run)
    fate = findings.first_stage(drops)
    funnel = findings.count_funnel(run, manifest, fate)
    rules = findings.count_rules(run, drops, fate, findings.rules_in_force(manifest.get("config") or {}))
    verified = findings.verify_duplicates(run, fate, manifest)
    histograms = findings.measure_signals(run, rules, fate)
    examples = findings.choose_examples(run)
    shards = findings.shards_of(run, "documents") if shards is None else shards
    pairs = {name: group for name, group in examples.items() if group[0].stage in ("exact", "minhash")}
    others = {name: group for name, group in examples.items() if name not in pairs}
    texts = findings.read_texts(shards, [example for group in others.values() for example in group])
    both = (pair_texts or functools.partial(findings.find_pair_texts, shards))(
        [example for group in pairs.values() for example in group]
    )
    both |= findings.find_pair_texts(shards, residual_examples(_residual(manifest)))
    sections = [
        html.Section("Result", _result(funnel, verified, manifest)),
        html.Section("Where documents go", _funnel(funnel)),
        html.Section("Rules", _rules(rules, funnel, run)),
        html.Section("Signals and their cut lines", _signals(histograms)),
        html.Section("Languages", _languages(run, fate)),
        html.Section("Duplicates", duplicates_section(run, manifest, verified, rules, pairs, both)),
        html.Section("Contamination", _contamination(run, manifest)),
        html.Section("Quality", _quality(run, manifest, rules, fate)),
        html.Section("What was dropped, and why", _examples(others, texts, rules)),
        html.Section("Quarantine", _quarantine(run)),
        html.Section("How to run this again", _origin(manifest)),
    ]
    text = html.page(
        "Curation report",
        _verdict(funnel, rules, verified),
        [section for section in sections if section.body],  # what was not measured has no section
        kicker="curate",
    )
    path = run / "report.html"
    write_atomic(path, text)
    return path


# ---------------------------------------------------------------------------------------------------------------------
# The sections
# ---------------------------------------------------------------------------------------------------------------------


def _verdict(funnel: Sequence[Funnel], rules: Sequence[RuleCount], verified: Verified) -> html.Html:
    read, kept = sum(f.read for f in funnel), sum(f.kept for f in funnel)
    lost = {stage: sum(f.lost[stage] for f in funnel) for stage in STAGES}
    parts: list[html.Content] = [
        html.strong(
            f"{html.number(kept)} of {html.number(read)} records are kept ({html.percent(kept, read)})."
        )
    ]
    worst = max(lost, key=lambda stage: lost[stage])
    if lost[worst]:
        rule = next(rule for rule in rules if rule.stage == worst)
        parts += [f" Most losses are at the {worst} stage ({html.number(lost[worst])} documents; its busiest rule is ", html.inline_code(rule.rule), ")."]  # fmt: skip
    if verified.removed:
        share = "every one of them" if verified.confirmed == verified.removed else f"only {html.number(verified.confirmed)} of them"  # fmt: skip
        parts.append(f" {html.number(verified.removed)} duplicates were removed, {share} verified against a document that stayed.")  # fmt: skip
    return html.fragment(*parts)


def _result(funnel: Sequence[Funnel], verified: Verified, manifest: Mapping[str, Json]) -> list[html.Content]:
    read, kept = sum(f.read for f in funnel), sum(f.kept for f in funnel)
    quarantined = sum(f.quarantined for f in funnel)
    contaminated = sum(f.lost["decontaminate"] for f in funnel)
    unverified = verified.removed - verified.confirmed
    warnings = manifest.get("warnings") or []
    cards = [
        html.Tile("Documents in", html.number(read - quarantined), f"{html.number(read)} records of {len(funnel)} source{'s' * (len(funnel) != 1)}"),
        html.Tile("Kept", html.number(kept), f"{html.percent(kept, read)} of all records", "kept"),
        html.Tile(
            "Duplicates",
            html.number(verified.removed),
            f"removed, {'all verified' if not unverified else f'{html.number(unverified)} NOT verified'}: {html.number(verified.exact)} exact, {html.number(verified.minhash)} near",
            "bad" if unverified else "good",
        ),
    ]  # fmt: skip
    residual = _residual(manifest)
    if residual and residual["sampled"]:
        cards.append(html.Tile("Residual", html.percent(residual["with_near_duplicate"], residual["sampled"]), f"of {html.number(residual['sampled'])} kept documents compared with all kept have a near duplicate left"))  # fmt: skip
    if manifest.get("decontaminate") or contaminated:
        cards.append(html.Tile("Contaminated", html.number(contaminated), f"{html.percent(contaminated, read)}, dropped by an evaluation text", "lost" if contaminated else "neutral"))  # fmt: skip
    cards += [
        html.Tile("Quarantined", html.number(quarantined), f"{html.percent(quarantined, read)} could not be read", "lost" if quarantined else "neutral"),
        html.Tile("Warnings", html.number(len(warnings)), "listed below" if warnings else "nothing to look at", "lost" if warnings else "neutral"),
    ]  # fmt: skip
    body: list[html.Content] = [html.tiles(cards)]
    return body + [html.notice(str(warning), "lost") for warning in warnings]


def _residual(manifest: Mapping[str, Json]) -> Mapping[str, Json] | None:
    return (manifest.get("dedup") or {}).get("residual")


def _funnel(funnel: Sequence[Funnel]) -> list[html.Content]:
    read, kept = sum(f.read for f in funnel), sum(f.kept for f in funnel)
    losses = {"quarantined": sum(f.quarantined for f in funnel)}
    losses |= {stage: sum(f.lost[stage] for f in funnel) for stage in STAGES}
    left, bars = read, [charts.Bar("read", [charts.Segment("still in", read, "kept")], html.number(read))]
    for name, count in losses.items():
        if not count:
            continue
        left -= count
        bars.append(charts.Bar(name, [charts.Segment("still in", left, "kept"), charts.Segment("lost here", count, "lost")], f"−{html.number(count)} ({html.percent(count, read)})"))  # fmt: skip
    bars.append(charts.Bar("kept", [charts.Segment("still in", kept, "kept")], html.number(kept)))
    largest = sorted(funnel, key=lambda f: (-f.read, f.source))
    by_source = [
        charts.Bar(
            f.source,
            [charts.Segment("kept", f.kept, "kept"), *[charts.Segment(stage, f.lost[stage], _TONES[stage]) for stage in STAGES if losses[stage]]]
            + ([charts.Segment("quarantined", f.quarantined, "neutral")] if losses["quarantined"] else []),
            f"{html.percent(f.kept, f.read)} of {html.number(f.read)}",
        )
        for f in largest[: 2 * TOP]
    ]  # fmt: skip
    stages = [stage for stage in STAGES if losses[stage]]
    rows: list[list[html.Cell]] = [
        [
            f.source,
            f.read,
            f.quarantined,
            *[f.lost[stage] for stage in stages],
            f.kept,
            html.percent(f.kept, f.read),
        ]
        for f in largest
    ]
    if len(funnel) > 1:
        rows.append([html.strong("all"), read, *[losses[name] for name in ("quarantined", *stages)], kept, html.percent(kept, read)])  # fmt: skip
    return [
        html.figure(
            "Each record is counted once, at the first stage that loses it; a document that fails several rules is "
            "in the table of rules once for each.",
            charts.stacked_bars("Records left after each stage", bars, whole=read),
        ),
        html.figure(
            "What became of each source's records, as shares of the source"
            + (f"; the {2 * TOP} largest of {html.number(len(funnel))} sources." if len(funnel) > 2 * TOP else "."), charts.stacked_bars("Outcome by source", by_source)),
        html.table(
            ["source", "read", "quarantined", *stages, "kept", "share"],
            rows,
            align="lrr" + "r" * len(stages) + "rr",
            caption="Records lost at each stage, by source. Stages without losses are left out.",
        ),
    ]  # fmt: skip


def _rules(rules: Sequence[RuleCount], funnel: Sequence[Funnel], run: Path) -> list[html.Content]:
    documents = sum(f.documents for f in funnel)
    body: list[html.Content] = []
    rows: list[list[html.Cell]] = [
        [html.inline_code(r.rule), r.stage, _bound(r), r.failing, html.meter(r.failing, documents), r.only]
        for r in rules
        if r.failing
    ]
    if rows:
        body.append(
            html.table(
                ["rule", "stage", "allowed", "failing", "of all documents", "only this rule"],
                rows,
                align="llrrlr",
                caption="Documents that fail each rule. Those that fail only this rule are what lifting it would bring "
                "back, before duplicates are looked for among them.",
            )
        )
    else:
        body.append("No rule drops any document.")
    cited: list[list[html.Cell]] = [
        [html.inline_code(r.rule), _bound(r), r.failing, r.limit.source] for r in rules if r.limit is not None
    ]
    if cited:
        idle = sum(1 for rule in rules if not rule.failing)
        body.append(
            html.details(
                f"All {html.number(len(cited))} bounds in force and where they come from; no document fails {html.number(idle)} of them",
                html.table(
                    ["rule", "allowed", "failing", "published as"],
                    cited,
                    align="lrrl",
                    caption="What this run allows, and what the authors of the rule wrote.",
                ),
            )
        )
    other = findings.count_other_decisions(run)
    if other:
        body.append(
            html.table(
                ["rule", "stage", "action", "documents", "decisions"],
                [
                    [html.inline_code(rule), stage, action, n, decisions]
                    for stage, rule, action, decisions, n in other
                ],
                align="lllrr",
                caption="Decisions that drop nothing: edits of the text, flags, and near misses (pairs that both stayed).",
            )
        )
    return body


def _bound(rule: RuleCount) -> str:
    if rule.limit is not None:
        return f"{'≥' if rule.limit.kind == 'min' else '≤'} {html.compact(rule.limit.bound)}"
    return "" if rule.bound is None else html.compact(rule.bound)


def _signals(histograms: Sequence[Measured]) -> list[html.Content]:
    if not histograms:
        return []
    figures = []
    for h in histograms:
        chart = charts.histogram(
            h.signal,
            edges=h.edges.tolist(),
            layers=[
                charts.Layer("kept", h.kept.tolist(), "kept"),
                charts.Layer("dropped", h.dropped.tolist(), "lost"),
            ],
            cuts=h.cuts,
            scale=h.scale,
        )
        outside = sum(
            int((h.kept + h.dropped)[(h.edges[1:] <= cut.at) if cut.dropped == "below" else (h.edges[:-1] >= cut.at)].sum())
            for cut in h.cuts
        )  # fmt: skip
        note = f"{html.number(outside)} documents beyond the cut" + (
            "; logarithmic axis" if h.scale == "log" else ""
        )
        figures.append(
            html.figure(note + (f"; {html.number(h.missing)} without a value" if h.missing else ""), chart)
        )
    return [
        "The shaded side of a line fails the rule, in sources that the rule applies to; what is dropped on the other "
        "side fails another rule.",
        _LEGEND,
        html.grid(figures),
    ]


def _languages(run: Path, fate: pl.DataFrame) -> list[html.Content]:
    counts = findings.count_languages(run, fate)
    if counts is None:
        return []
    shown, rest = counts[:TOP], counts[TOP:]
    if rest:
        shown.append((f"{len(rest)} others", sum(r[1] for r in rest), sum(r[2] for r in rest), sum(r[3] for r in rest)))  # fmt: skip
    bars = [
        charts.Bar(
            language,
            [charts.Segment("kept", kept, "kept"), charts.Segment("dropped for its language", by, "lost"), charts.Segment("dropped for another reason", total - kept - by, "neutral")],
            f"{html.number(kept)} of {html.number(total)}",
        )
        for language, total, kept, by in shown
    ]  # fmt: skip
    return [
        html.figure(
            "Documents by detected language (ISO 639-1), and how many of them are kept. A document is dropped "
            "for its language where no earlier stage drops it.",
            charts.stacked_bars("Documents by language", bars, whole=max(total for _, total, _, _ in shown)),
        )
    ]


def _contamination(run: Path, manifest: Mapping[str, Json]) -> list[html.Content]:
    searched = manifest.get("decontaminate")
    hits = findings.count_contamination(run)
    if not searched and not hits:
        return []
    body: list[html.Content] = []
    if hits:
        body.append(
            html.table(
                ["evaluation set", "documents", "its items found"],
                hits,
                align="lrr",
                caption="Documents that share words in a row with an evaluation item, and how many items of the set are found.",
            )
        )
    else:
        body.append("No document shares a passage with an evaluation item.")
    if searched:
        facts = [(name.replace("_", " "), _cell(value)) for name, value in sorted(searched.items())]
        body.append(
            html.table(["evaluation items", "number"], facts, align="lr", caption="What was searched for.")
        )
    return body


def _quality(
    run: Path, manifest: Mapping[str, Json], rules: Sequence[RuleCount], fate: pl.DataFrame
) -> list[html.Content]:
    quality = manifest.get("quality")
    by_source = findings.count_quality(run, fate) if quality else None
    if not quality or by_source is None:
        return []
    rows: list[list[html.Cell]] = [
        [name, _cell(value)] for name, value in quality.items() if not isinstance(value, dict | list)
    ]
    auc = quality.get("auc")
    body: list[html.Content] = []
    if isinstance(auc, int | float):
        body.append(
            html.tiles(
                [
                    html.Tile(
                        "Classifier AUC",
                        html.number(auc, 3),
                        "held-out examples; 0.5 is chance, 1 is perfect",
                        "good" if auc >= 0.8 else "lost",
                    )
                ]
            )
        )
    bound = next((rule.bound for rule in rules if rule.rule == "quality.min_score"), None)
    cuts = [] if bound is None else [charts.Cut(bound, "below", f"min {html.compact(bound)}")]
    figures = [
        html.figure(
            f"{html.number(int(values.sum()))} documents",
            charts.histogram(
                source,
                edges=[i / 20 for i in range(21)],
                layers=[
                    charts.Layer("kept", values[0].tolist(), "kept"),
                    charts.Layer("dropped", values[1].tolist(), "lost"),
                ],
                cuts=cuts,
            ),
        )
        for source, values in sorted(by_source.items(), key=lambda item: (-int(item[1].sum()), item[0]))[:TOP]
    ]
    body.append("Quality score of each source's documents; 1 is like the positive examples.")
    return [
        *body,
        html.grid(figures),
        html.table(["classifier", "value"], rows, align="lr", caption="How the classifier was made."),
    ]


def _examples(
    examples: Mapping[str, Sequence[Example]],
    texts: Mapping[tuple[Key, int], str],
    rules: Sequence[RuleCount],
) -> list[html.Content]:
    if not examples:
        return []
    failing = {rule.rule: rule.failing for rule in rules}
    body: list[html.Content] = [
        "Of every rule the two documents nearest to its bound and the one farthest from it."
    ]
    for stage in STAGES:
        groups = {name: group for name, group in examples.items() if group[0].stage == stage}
        if groups:
            body.append(html.subheading(stage))
        for name, group in sorted(groups.items(), key=lambda item: (-failing.get(item[0], 0), item[0])):
            count = f": {html.number(failing[name])} documents" if name in failing else ""
            body.append(html.details(f"{name}{count}", *[_example(example, texts) for example in group]))
    return body


def _example(example: Example, texts: Mapping[tuple[Key, int], str]) -> html.Html:
    heading: list[html.Content] = [
        html.inline_code(example.key[1]),
        f" of {example.key[0]}",
        example.measured,
    ]
    if example.partner:
        heading += [", shares words with ", html.inline_code(example.partner[1]), f" of {example.partner[0]}"]
    text = texts.get((example.key, example.start))
    if text is None:
        return html.card(html.fragment(*heading), html.paragraph("The run holds no text of this document."))
    return html.card(html.fragment(*heading), html.side_by_side([("", _passage(text, example))]))


def _passage(text: str, example: Example) -> html.Html:
    if example.span is None:
        return html.fragment(_passage_from(text))
    start, end = (place - example.start for place in example.span)
    shown = min(end, start + EXCERPT)
    after = text[shown : shown + EXCERPT // 2]
    before = ("…" if example.start else "") + text[:start]
    return html.fragment(
        before,
        html.marked(text[start:shown], 0, shown - start),
        after,
        "…" if len(text) > shown + len(after) else "",
    )


def _passage_from(text: str, start: int = 0) -> str:
    """``EXCERPT`` characters of a text with signs where it goes on."""
    return (
        ("…" if start else "") + text[start : start + EXCERPT] + ("…" if len(text) > start + EXCERPT else "")
    )


def _quarantine(run: Path) -> list[html.Content]:
    counts = findings.count_quarantine(run)
    if not counts:
        return ["Every record could be read."]
    first = findings.first_quarantined(run, TOP)
    total = sum(count for _, _, count in counts)
    shown: list[list[html.Cell]] = [
        [path, source, _cell(line if line is not None else row), html.inline_code(reason), detail or "", html.inline_code((excerpt or "")[:120])]
        for source, path, row, line, reason, detail, excerpt in first
    ]  # fmt: skip
    note = "" if total <= TOP else f" The first {TOP} of {html.number(total)}; all are in quarantine/."
    return [
        html.table(
            ["reason", "source", "records"],
            [[html.inline_code(reason), source, count] for reason, source, count in counts],
            align="llr",
            caption="Records that could not be read, by reason.",
        ),
        html.table(
            ["file", "source", "line", "reason", "detail", "begins"],
            shown,
            align="llrlll",
            caption=f"Where they are (the line from 1, or the record from 0).{note}",
        ),
    ]


def _origin(manifest: Mapping[str, Json]) -> list[html.Content]:
    inputs = manifest.get("inputs") or []
    shards = (manifest.get("shards") or {}).get("kept") or []
    body: list[html.Content] = [
        html.details("Configuration, with every default", html.code(yaml.safe_dump(manifest.get("config"), sort_keys=False, allow_unicode=True, width=110))),
    ]  # fmt: skip
    lists: tuple[tuple[str, list[str], Sequence[Mapping[str, Json]], str], ...] = (
        ("input files", ["path", "source", "sha256"], inputs, "What was read."),
        ("kept shards", ["path", "rows", "sha256"], shards, "What was made."),
    )
    for name, columns, entries, caption in lists:
        if not entries:
            continue
        more = "" if len(entries) <= 10 * TOP else f" The first {10 * TOP} of {html.number(len(entries))}; all are in manifest.json."  # fmt: skip
        rows: list[list[html.Cell]] = [
            [
                html.inline_code(str(entry.get(c, ""))) if c == "sha256" else _cell(entry.get(c))
                for c in columns
            ]
            for entry in entries[: 10 * TOP]
        ]
        align = "".join("r" if c == "rows" else "l" for c in columns)
        body.append(
            html.details(
                f"{html.number(len(entries))} {name}",
                html.table(columns, rows, align=align, caption=caption + more),
            )
        )
    parents = manifest.get("parents") or []
    if parents:
        body.append(
            html.details(
                "Parents", html.code(json.dumps(parents, indent=2, ensure_ascii=False, sort_keys=True))
            )
        )
    return body


def _cell(value: Json) -> html.Cell:
    return (
        value
        if isinstance(value, int | float | str) and not isinstance(value, bool)
        else ""
        if value is None
        else str(value)
    )
