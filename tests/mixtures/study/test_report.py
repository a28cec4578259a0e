"""The report of a study: the verdict first, and every number beside where it comes from."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from filters.errors import DataError
from mixtures.study.report import ArmResult, Share, StudyResult, judge, write_report

DATASETS = ("copa", "rte", "wic", "boolq")
ITEMS = 12


def study(
    effects: dict[str, float],
    *,
    seeds: int = 2,
    reference: str | None = None,
    noise: float = 0.05,
    steps: int = 30,
) -> StudyResult:
    """A study whose arms differ from a base of 2 bits per byte by ``effects``; the base is the same under every seed."""
    rng = np.random.default_rng(7)
    rows, curves = [], []
    for arm, effect in effects.items():
        for seed in range(seeds):
            for d, dataset in enumerate(DATASETS):
                for item in range(ITEMS):
                    bits = (
                        2 + 0.1 * d + 0.05 * item + effect + (0.0 if arm == "base" else rng.normal(0, noise))
                    )
                    rows.append((arm, seed, dataset, f"{dataset}/{item}", bits * math.log(2) * 10, 10))
            if arm != "base":
                curves += [(arm, seed, s, 5 / s + 1, 4096 * s, 900 * s) for s in range(1, steps + 1)]
    names = ("arm", "seed", "dataset", "id", "nll", "target_bytes")
    curve_names = ("arm", "seed", "step", "loss", "tokens", "target_tokens")
    arms = tuple(
        ArmResult(arm, "the untuned model")
        if arm == "base"
        else ArmResult(
            arm, f"about {arm}", "ab" * 32, (Share("flan", 0.6, 0.59), Share("text <&>", 0.4, 0.41))
        )
        for arm in effects
    )
    return StudyResult(
        arms=arms,
        scores=pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)}),
        curves=pa.table({name: [row[i] for row in curves] for i, name in enumerate(curve_names)}),
        config={"seeds": seeds, "arms": {"many": {"about": "<b>bold</b>"}}},
        command="mixtures study configs/studies/demo.yaml --out runs/demo",
        reference=reference,
    )


def cells(page: str, caption: str) -> list[list[str]]:
    """The rows of the table whose caption begins so, as texts."""
    start = page.index(f"<caption><span>{caption}")
    body = page[start : page.index("</table>", start)]
    rows = re.findall(r"<tr>(.*?)</tr>", body)
    return [[re.sub("<[^>]+>", "", c) for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("study")
    write_report(directory, study({"base": 0, "few": -0.3, "many": -0.8, "text": 0.4}))
    return directory


@pytest.fixture(scope="module")
def page(out: Path) -> str:
    return (out / "report.html").read_text(encoding="utf-8")


def test_the_page_opens_with_the_verdict(page: str) -> None:
    verdict = re.sub("<[^>]+>", "", page[page.index('<p class="verdict">') : page.index("<nav")])
    assert verdict.startswith("“many” is better than “few” on 4 held-out datasets: −0.50")
    assert "Worse than “few”: “text”." in verdict
    assert "Not distinguishably better than the base: “text”." in verdict


@pytest.mark.parametrize(
    ("effects", "reference", "expected"),
    [
        ({"base": 0, "a": -0.5, "b": -0.9}, None, "“b” is better than “a” on 4 held-out datasets: −0."),
        ({"base": 0, "a": -0.5, "b": -0.9}, "b", "No arm is distinguishably better than “b” on 4 held-out datasets. The lowest of them is “a”: 0."),
        ({"base": 0, "a": -0.5, "b": -0.5}, None, "No arm is distinguishably better than “a”"),
        ({"base": 0, "a": -0.5, "b": -0.9, "c": -1.4}, "a", "It is better than the second best arm, “b”: −0."),
        ({"base": 0, "a": -0.5}, None, "“a” is better than the base on 4 held-out datasets: −0."),
        ({"base": 0, "a": 0.5}, None, "Not distinguishably better than the base: “a”."),
        ({"base": 0, "a": -0.5, "b": -0.9}, None, "Every arm is better than the base."),
        ({"a": 0}, None, "Only “a” was scored, so there is nothing to compare."),
        ({"a": 0, "b": -0.5}, "a", "“b” is better than “a”"),
    ],
)  # fmt: skip
def test_the_verdict_says_what_the_scores_say(
    effects: dict[str, float], reference: str | None, expected: str
) -> None:
    assert expected in judge(study(effects, reference=reference)).sentence


def test_arms_are_judged_against_the_reference_and_against_the_base() -> None:
    found = judge(study({"base": 0, "few": -0.3, "many": -0.8, "text": 0.4}))
    assert [(d.arm, d.reference, d.verdict) for d in found.against_reference] == [
        ("many", "few", "better"),
        ("text", "few", "worse"),
    ]
    assert [(d.arm, d.reference, d.verdict) for d in found.against_base] == [
        ("many", "base", "better"),
        ("few", "base", "better"),
        ("text", "base", "worse"),
    ]
    assert found.against_reference[0].mean == pytest.approx(-0.5, abs=0.03)
    assert found.runner_up is not None and (found.runner_up.arm, found.runner_up.reference) == ("many", "few")


def test_every_comparison_is_drawn_and_written(page: str) -> None:
    assert page.count("<circle") == 5  # two against few, three against base
    rows = cells(page, "Paired differences in bits per byte")[1:]
    assert [(row[0], row[1], row[5], row[-1]) for row in rows] == [
        ("many", "few", "4 of 4", "better"),
        ("text", "few", "0 of 4", "worse"),
        ("many", "base", "4 of 4", "better"),
        ("few", "base", "4 of 4", "better"),
        ("text", "base", "0 of 4", "worse"),
    ]
    assert "Only 4 datasets: the interval is wide for that reason, and approximate." in page


def test_bits_per_byte_stand_by_dataset_and_arm_with_the_spread_of_seeds(page: str) -> None:
    head, macro, *rows = cells(page, "Bits per byte: mean over seeds")
    assert head == ["dataset", "base", "few", "many", "text"]
    assert [row[0] for row in rows] == sorted(DATASETS)
    # 2 + 0.1 x (0, 1, 2, 3) over datasets, 0.05 x (0 to 11) over items
    assert macro[1] == "2.425"
    assert rows[1][1] == "2.275"  # copa, the first in DATASETS
    assert all(re.fullmatch(r"\d\.\d{3} ± \d\.\d{3}", row[2]) for row in [macro, *rows])
    assert float(macro[3].split(" ± ")[0]) == pytest.approx(2.425 - 0.8, abs=0.03)
    bold = page[
        page.index("<caption><span>Bits per byte: mean") : page.index("<caption><span>Bits per byte minus")
    ]
    assert [match.split(" ± ")[0] for match in re.findall("<strong>([^<]+)</strong>", bold)] == [
        row[3].split(" ± ")[0] for row in [macro, *rows]
    ]


def test_shares_are_shown_as_requested_and_as_delivered(page: str) -> None:
    rows = cells(page, "Shares of target tokens.")
    assert rows[1] == ["few", "flan", "60.0%", "59.0%", "−1.0"]
    assert rows[2] == ["few", "text &lt;&amp;&gt;", "40.0%", "41.0%", "1.0"]
    assert len(rows) == 1 + 2 * 3


def test_many_parts_share_a_colour_and_still_fill_their_bar(tmp_path: Path) -> None:
    found = study({"base": 0, "a": -0.5})
    parts = tuple(Share(f"part{i}", (i + 1) / 55, (i + 1) / 55) for i in range(10))  # 1 + 2 + ... + 10 = 55
    arms = (found.arms[0], dataclasses.replace(found.arms[1], shares=parts))
    text = write_report(tmp_path, dataclasses.replace(found, arms=arms)).read_text(encoding="utf-8")
    chart = text[text.index("<title>Mixtures: a, delivered</title>") :]
    chart = chart[: chart.index("</svg>")]
    named = re.findall(r'<rect class="(\w+)" x="[^"]+" width="([^"]+)%" height="22"><title>([^:]+):', chart)
    assert [name for _, _, name in named] == [f"part{i}" for i in range(9, 1, -1)] + ["2 other parts"]
    assert len({tone for tone, _, _ in named}) == 9
    assert sum(float(width) for _, width, _ in named) == pytest.approx(100, abs=0.01)
    assert float(named[-1][1]) == pytest.approx(100 * 3 / 55, abs=0.01)
    assert len(cells(text, "Shares of target tokens.")) == 1 + 10


def test_cost_comes_from_the_curves_and_can_be_given(page: str, tmp_path: Path) -> None:
    assert cells(page, "Cost.")[1:] == [
        ["base", "0", "–", "–", "–"],
        *[[arm, "2", "30", "122,880", "27,000"] for arm in ("few", "many", "text")],
    ]
    found = study({"base": 0, "a": -0.5})
    given = dataclasses.replace(
        found, arms=(found.arms[0], dataclasses.replace(found.arms[1], tokens=7, target_tokens=5))
    )
    again = write_report(tmp_path, given).read_text(encoding="utf-8")
    assert cells(again, "Cost.")[2] == ["a", "2", "30", "7", "5"]


def test_every_run_has_its_curve_and_every_arm_its_colour(page: str) -> None:
    assert re.findall(r'<polyline class="(\w+)"', page) == ["c1", "c1", "c2", "c2", "c3", "c3"]


def test_a_long_curve_is_drawn_by_means_of_neighbouring_steps(tmp_path: Path) -> None:
    text = write_report(tmp_path, study({"base": 0, "a": -0.5}, steps=1000)).read_text(encoding="utf-8")
    (first, _) = re.findall(r'points="([^"]+)"', text)
    assert len(first.split()) == 120


def test_a_loss_that_is_not_finite_is_called_out(tmp_path: Path) -> None:
    found = study({"base": 0, "a": -0.5})
    loss = found.curves["loss"].to_pylist()
    loss[5] = math.nan
    broken = found.curves.set_column(found.curves.column_names.index("loss"), "loss", pa.array(loss))
    text = write_report(tmp_path, dataclasses.replace(found, curves=broken)).read_text(encoding="utf-8")
    assert "The loss was not finite at some step of: a." in text


def test_the_noise_of_seeds_is_reported_or_its_absence(page: str, tmp_path: Path) -> None:
    assert [row[0] for row in cells(page, "Macro average of bits per byte")[1:]] == ["few", "many", "text"]
    once = write_report(tmp_path, study({"base": 0, "a": -0.5}, seeds=1)).read_text(encoding="utf-8")
    assert "Every arm was trained with one seed" in once
    assert "One seed: the interval does not cover what another training run would change." in once


def test_the_scores_lie_beside_the_page_sorted_and_named_by_their_hash(out: Path, page: str) -> None:
    table = pq.read_table(out / "scores.parquet")
    assert table.num_rows == 4 * 2 * len(DATASETS) * ITEMS
    keys = list(zip(*(table[name].to_pylist() for name in ("arm", "seed", "dataset", "id")), strict=True))
    assert keys == sorted(keys)
    assert pa_csv.read_csv(out / "scores.csv").equals(table)
    for name in ("scores.parquet", "scores.csv"):
        digest = hashlib.sha256((out / name).read_bytes()).hexdigest()
        assert [name, digest] in cells(page, "Every score")
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "scores.csv", "scores.parquet"]


def test_the_page_tells_how_to_run_the_study_again(page: str) -> None:
    assert "mixtures study configs/studies/demo.yaml --out runs/demo" in page
    assert "seeds: 2" in page and "about: &lt;b&gt;bold&lt;/b&gt;" in page
    assert "ab" * 32 in page


def test_the_same_result_gives_the_same_files_in_any_order_of_rows(tmp_path: Path) -> None:
    found = study({"base": 0, "few": -0.3, "many": -0.8})
    order = np.random.default_rng(0).permutation(found.scores.num_rows)
    curves = np.random.default_rng(1).permutation(found.curves.num_rows)
    other = dataclasses.replace(found, scores=found.scores.take(order), curves=found.curves.take(curves))
    for name, result in (("one", found), ("two", other)):
        write_report(tmp_path / name, result)
    for file in ("report.html", "scores.csv", "scores.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_tables_that_do_not_fit_the_arms_are_refused() -> None:
    found = study({"base": 0, "a": -0.5})
    with pytest.raises(DataError, match="scores have no column 'nll'; needed: arm, seed"):
        dataclasses.replace(found, scores=found.scores.drop_columns(["nll"]))
    with pytest.raises(DataError, match="scores of the arm 'a'; the arms are base"):
        dataclasses.replace(found, arms=found.arms[:1])
    with pytest.raises(DataError, match="no scores of the arm 'idle'"):
        dataclasses.replace(found, arms=(*found.arms, ArmResult("idle")))
    with pytest.raises(DataError, match="no arm is called 'best'; the arms are base, a"):
        dataclasses.replace(found, reference="best")


def test_a_share_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"share of 'flan': found 1\.2; allowed: 0 to 1"):
        Share("flan", 1.2, 0.5)
