"""Training that repeats to the byte, scores that do not depend on their neighbours, and every refusal."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import os
import resource
import stat
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.errors import ConfigError, DataError, RunError
from filters.quality import (
    QualityModel,
    _auc,
    _lines,
    _log_loss,
    _split,
    score_quality,
    train_quality,
)

SHARED = Path(os.environ.get("CURATE_SHARED", Path(__file__).parents[3] / "shared"))

# Sentences as an encyclopaedia has them, and as the margins of web pages do.
GOOD = [
    f"{subject} {verb} {place}, {reason}."
    for subject, verb, place, reason in itertools.product(
        ("The river", "A small town", "The northern railway", "This species of oak"),
        ("was first described near", "lies to the south of", "is older than"),
        ("the capital", "the cathedral of Bamberg", "the Baltic coast"),
        ("as several historians have argued", "although the records of that period are incomplete"),
    )
]
BAD = [
    f"{call} {what} {when} {tail}"
    for call, what, when, tail in itertools.product(
        ("CLICK HERE!!!", "Sign up", "buy now >>", "FREE"),
        ("cheap watches", "login | register", "newsletter"),
        ("today only", "share tweet pin", "lol"),
        ("(c) all rights reserved", "page 1 2 3 next »"),
    )
]
SMALL = {"seed": 3, "bucket": 5_000, "epochs": 20}
WORDS = st.lists(
    st.sampled_from(
        [
            "river",
            "FREE",
            "historians",
            "click",
            "__label__",
            "__label__hq",
            "</s>",
            "<",
            "/s>",
            "_",
            "label__",
            "é",
        ]
    ),
    max_size=8,
)
TEXTS = st.one_of(
    st.text(max_size=30),
    st.builds(
        lambda words, gap: gap.join(words), WORDS, st.sampled_from(["", " ", "\n", "\t", "\0", "\u2028"])
    ),
    st.sampled_from(GOOD + BAD),
)


def column(texts: list[str]) -> pa.StringArray:
    return pa.array(texts, pa.string())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, QualityModel]:
    path = tmp_path_factory.mktemp("quality") / "model.bin"
    return path, train_quality(column(GOOD), column(BAD), out=path, **SMALL)


def scores(texts: list[str], path: Path) -> list[float]:
    return score_quality(column(texts), path).to_pylist()


def test_two_trainings_give_the_same_bytes_whatever_the_order_of_the_texts(
    trained: tuple[Path, QualityModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = trained
    monkeypatch.setenv("MALLOC_PERTURB_", "165")  # dirties all memory of a process that it reaches
    again = train_quality(
        column(GOOD[::-1]), column(BAD[7:] + BAD[:7]), out=tmp_path / "new" / "model.bin", **SMALL
    )
    assert (tmp_path / "new" / "model.bin").read_bytes() == path.read_bytes()
    assert again == model


def test_a_matrix_too_small_to_come_from_the_system_repeats_too(tmp_path: Path) -> None:
    tiny = {"seed": 1, "dim": 2, "word_ngrams": 1}  # some fifty words, 400 bytes
    hashes = {
        train_quality(column(GOOD), column(BAD), out=tmp_path / "model.bin", **tiny).sha256 for _ in range(3)
    }
    assert len(hashes) == 1


def test_another_seed_gives_another_model(trained: tuple[Path, QualityModel], tmp_path: Path) -> None:
    other = train_quality(column(GOOD), column(BAD), out=tmp_path / "model.bin", **{**SMALL, "seed": 4})
    assert other.sha256 != trained[1].sha256


def test_the_model_separates_what_it_has_not_seen(trained: tuple[Path, QualityModel]) -> None:
    path, model = trained
    assert model.auc == 1.0
    assert model.log_loss < 0.2
    unseen = [
        "The bridge is older than the cathedral, as the records of that period show.",
        "FREE login page 1 2",
    ]
    good, bad = scores(unseen, path)
    assert good > 0.9
    assert bad < 0.1


def test_the_summary_accounts_for_every_example_and_describes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    model = train_quality(
        column([*GOOD, "", " \n\0", BAD[0], BAD[0]]), column([*BAD, "\t"]), out=path, held_out=0.25, **SMALL
    )
    assert (model.empty, model.contradictory) == (3, 3)  # BAD[0] twice as good and once as bad
    assert (model.held_out_positives, model.trained_positives) == (18, 54)  # 72 * 0.25
    assert (model.held_out_negatives, model.trained_negatives) == (18, 53)  # 71 * 0.25 = 17.75
    sha256 = subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True).stdout.split()[0]
    assert (model.sha256, model.model_bytes) == (sha256, path.stat().st_size)


def test_training_leaves_the_model_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere := tmp_path / "tmp").mkdir()
    (out := tmp_path / "out").mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    train_quality(column(GOOD), column(BAD), out=out / "model.bin", **SMALL)
    assert [path.name for path in out.iterdir()] == ["model.bin"]
    assert list(elsewhere.iterdir()) == []
    assert stat.S_IMODE((out / "model.bin").stat().st_mode) & 0o444


def test_training_and_scoring_print_and_warn_nothing(tmp_path: Path) -> None:
    (tmp_path / "texts.json").write_text(json.dumps([GOOD, BAD]))
    program = (
        "import json, sys, pathlib, pyarrow as pa; from filters import score_quality, train_quality\n"
        "folder = pathlib.Path(sys.argv[1]); good, bad = map(pa.array, json.loads((folder / 'texts.json').read_text()))\n"
        "train_quality(good, bad, out=folder / 'model.bin', seed=1, bucket=5000)\n"
        "score_quality(good, folder / 'model.bin')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert (done.stdout, done.stderr) == ("", "")


@given(st.lists(TEXTS, max_size=8))
@settings(max_examples=80, deadline=None)
def test_a_text_scores_the_same_alone_and_among_others(
    trained: tuple[Path, QualityModel], texts: list[str]
) -> None:
    together = scores(texts, trained[0])
    assert together == [scores([text], trained[0])[0] for text in texts]
    assert all(0.0 <= score <= 1.0 for score in together)


def test_batches_do_not_show_in_the_scores(trained: tuple[Path, QualityModel]) -> None:
    texts = [f"{text} {number}" for number in range(20) for text in GOOD + BAD]  # 2,880 texts, three batches
    together = scores(texts, trained[0])
    assert together[1020:1030] == scores(texts[1020:1030], trained[0])
    assert together[::-1] == scores(texts[::-1], trained[0])


def test_a_certain_model_gives_one_and_no_more(tmp_path: Path) -> None:
    train_quality(
        column(GOOD), column(BAD), out=tmp_path / "model.bin", seed=1, bucket=5_000, lr=5.0, epochs=50
    )
    assert max(scores(GOOD, tmp_path / "model.bin")) == 1.0  # fastText itself says 1.00001


def test_a_text_without_a_word_scores_zero(trained: tuple[Path, QualityModel]) -> None:
    texts = pa.array(["", " ", "\n\n", "\0\t\r", None, GOOD[0]])
    assert score_quality(texts, trained[0]).to_pylist()[:5] == [0.0] * 5
    assert score_quality(texts, trained[0])[5].as_py() > 0.9
    assert score_quality(pa.array([], pa.string()), trained[0]).to_pylist() == []


def test_lines_are_joined_by_spaces_and_slices_and_chunks_are_columns(
    trained: tuple[Path, QualityModel],
) -> None:
    text = GOOD[0] + " " + BAD[0]
    expected = scores([text], trained[0])[0]
    assert (
        scores([text.replace(" ", "\n"), text.replace(" ", "\r\n"), f"\n{text}\n"], trained[0])
        == [expected] * 3
    )
    whole = pa.array(["skipped", text, BAD[1], "skipped"], pa.large_string())
    both = score_quality(whole[1:-1], trained[0])
    assert both.type == pa.float64()
    assert both[0].as_py() == expected
    assert (
        score_quality(pa.chunked_array([whole[1:2], whole[2:3]]), trained[0]).to_pylist() == both.to_pylist()
    )


def test_a_text_is_judged_by_its_first_ten_thousand_characters(trained: tuple[Path, QualityModel]) -> None:
    head = ("é" * 9 + " ") * 1000
    assert len(head) == 10_000
    assert len(set(scores([head, head + BAD[0], head + GOOD[0]], trained[0]))) == 1
    assert len(set(scores([head[:9000], head[:9000] + BAD[0], head[:9000] + GOOD[0]], trained[0]))) == 3


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_no_text_can_label_itself_or_end_early(text: str) -> None:
    (line,) = _lines(column([text]))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    for word in line.replace(b"\0", b" ").split():
        assert not word.startswith(b"__label__")
        assert word != b"</s>"


def test_what_follows_an_end_sign_still_counts(trained: tuple[Path, QualityModel]) -> None:
    cut, whole = scores([GOOD[0], f"{GOOD[0]} </s> {BAD[0]} {BAD[1]} {BAD[2]}"], trained[0])
    assert whole < cut - 0.1


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=20),
    st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=20),
)
def test_auc_is_the_share_of_pairs_in_order_and_log_loss_the_mean(
    good: list[float], bad: list[float]
) -> None:
    won = sum(1.0 if high > low else 0.5 if high == low else 0.0 for high in good for low in bad)
    assert _auc(np.array(good), np.array(bad)) == pytest.approx(won / (len(good) * len(bad)))
    right = [min(max(score, 1e-5), 1 - 1e-5) for score in [*good, *(1 - score for score in bad)]]
    assert _log_loss(np.array(good), np.array(bad)) == pytest.approx(-sum(map(math.log, right)) / len(right))


@given(
    st.lists(st.integers(0, 60), max_size=60),
    st.integers(0, 2**31 - 1),
    st.floats(0.01, 0.5),
)
def test_equal_texts_stay_on_one_side_of_the_split(numbers: list[int], seed: int, share: float) -> None:
    lines = [b"text %d\n" % number for number in [*numbers, *range(61)]]
    trained, judged = _split(lines, label="__label__hq", seed=seed, held_out=share)
    assert sorted(trained + judged) == sorted(lines)
    assert not set(trained) & set(judged)
    assert len(judged) >= max(1, round(share * len(lines)))
    backwards = _split(lines[::-1], label="__label__cc", seed=seed, held_out=share)
    assert (sorted(backwards[0]), sorted(backwards[1])) == (sorted(trained), sorted(judged))


def test_too_few_examples_are_refused_with_their_number(tmp_path: Path) -> None:
    out = tmp_path / "model.bin"
    with pytest.raises(DataError) as caught:
        train_quality(column(GOOD), column([*BAD[:19], "", " "]), out=out, seed=1)
    assert str(caught.value) == (
        "train_quality: 19 negatives are left without those that have no word or stand on both sides; "
        "at least 20 are needed, thousands are better. Give more negatives"
    )
    with pytest.raises(DataError, match=r"^train_quality: 0 positives are left"):
        train_quality(column([]), column(BAD), out=out, seed=1)
    with pytest.raises(DataError, match=r"^train_quality: 0 positives are left"):
        train_quality(column(BAD), column(BAD), out=out, seed=1)
    with pytest.raises(
        DataError, match=r"most of the 50 positives are one text .*: 0 are left to train on beside 50"
    ):
        train_quality(column(["again"] * 50), column(BAD), out=out, seed=1)
    assert list(tmp_path.iterdir()) == []


def test_every_option_out_of_range_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        train_quality(
            column(GOOD), column(BAD), out=tmp_path / "model.bin",
            seed=-1, dim=0, word_ngrams=0, bucket=2**31, epochs=0, lr=0.0, held_out=0.6,
        )  # fmt: skip
    assert caught.value.faults == (
        "train_quality: seed is -1; allowed is from 0 to 2**31 - 1",
        "train_quality: dim is 0; allowed is from 1 to 1024",
        "train_quality: word_ngrams is 0; allowed is from 1 to 8",
        "train_quality: bucket is 2147483648; allowed is from 1 to 2**31 - 1",
        "train_quality: epochs is 0; allowed is from 1 to 1000",
        "train_quality: lr is 0.0; allowed is over 0, at most 5",
        "train_quality: held_out is 0.6; allowed is over 0, at most 0.5",
    )


def test_a_training_that_finds_no_memory_says_what_it_asked_for(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(
        resource.RLIMIT_AS, (2**38, before[1])
    )  # of the child too: 256 GiB, and it asks for 8 TiB
    try:
        with pytest.raises(RunError) as caught:
            train_quality(
                column(GOOD), column(BAD), out=tmp_path / "model.bin", seed=1, dim=1024, bucket=2**31 - 1
            )
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert str(caught.value).startswith(
        "train_quality: fastText failed (bucket 2,147,483,647 and dim 1024, lr 0.1): "
    )
    assert "alloc" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_training_process_that_is_killed_is_reported_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (python := tmp_path / "python").write_text("#!/bin/sh\nkill -9 $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(
        RunError, match="was ended by SIGKILL; with bucket 200,000 and dim 16 it may have run out of memory"
    ):
        train_quality(column(GOOD), column(BAD), out=tmp_path / "model.bin", seed=1)
    assert list(tmp_path.iterdir()) == [python]


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        score_quality(column(GOOD), tmp_path / "none.bin")
    assert str(caught.value) == (
        f"{tmp_path}/none.bin: no quality model there (No such file or directory). "
        "Correct the path, or train one with train_quality"
    )


@pytest.mark.parametrize("kept", [0, 3, 60, 91, 92, 100, 5_000, 0.5, -5_000, -17, -4, -1])
def test_a_model_file_that_is_cut_is_refused_before_fasttext_reads_it(
    trained: tuple[Path, QualityModel], tmp_path: Path, kept: float
) -> None:
    """fastText itself would score with garbage, or never return."""
    whole = trained[0].read_bytes()
    cut = tmp_path / "cut.bin"
    cut.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(
        DataError, match=r"cut\.bin: not a whole fastText model: .*\. Allowed is an unquantised"
    ):
        score_quality(column(GOOD), cut)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (other := tmp_path / "model.bin").write_bytes(b"PAR1" * 100)
    with pytest.raises(DataError, match=r"its magic number and version are 827474256 and 827474256"):
        score_quality(column(GOOD), other)


def test_a_model_that_holds_a_nan_is_refused(trained: tuple[Path, QualityModel], tmp_path: Path) -> None:
    (broken := tmp_path / "model.bin").write_bytes(trained[0].read_bytes()[:-4] + struct.pack("<f", math.nan))
    with pytest.raises(
        DataError, match=r"model\.bin: the model holds a NaN, so its scores mean nothing\. Train it again"
    ):
        score_quality(column(GOOD), broken)


def test_an_unknown_label_is_refused_and_the_other_label_is_the_complement(
    trained: tuple[Path, QualityModel],
) -> None:
    path = trained[0]
    with pytest.raises(
        DataError, match=r"no label '__label__good'; it has __label__cc, __label__hq\. Name one of them"
    ):
        score_quality(column(GOOD), path, label="__label__good")
    wanted, other = score_quality(column(GOOD), path), score_quality(column(GOOD), path, label="__label__cc")
    assert np.add(wanted, other) == pytest.approx(1.0, abs=3e-5)


def test_a_file_with_new_content_is_a_new_model(trained: tuple[Path, QualityModel], tmp_path: Path) -> None:
    (path := tmp_path / "model.bin").write_bytes(trained[0].read_bytes())
    before = scores(GOOD[:5], path)
    assert before == scores(GOOD[:5], trained[0])
    train_quality(column(BAD), column(GOOD), out=path, **SMALL)  # the sides exchanged
    after = scores(GOOD[:5], path)
    assert max(after) < 0.1 < 0.9 < min(before)
    path.write_bytes(trained[0].read_bytes())  # in place: the same inode, and the same size
    assert scores(GOOD[:5], path) == before


@pytest.mark.shared
def test_edited_prose_is_told_from_chat_and_boilerplate(tmp_path: Path) -> None:
    folder = SHARED / "data" / "quality"
    if not folder.is_dir():
        pytest.skip(f"no shared data in {SHARED}")
    rows: dict[str, list[dict[str, object]]] = {}
    for name in ("positive", "negative", "dclm_human_labels"):
        with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows[name] = [json.loads(line) for line in lines]
    texts = {name: pa.array([row["text"] for row in part]) for name, part in rows.items()}
    path = tmp_path / "model.bin"
    model = train_quality(texts["positive"], texts["negative"], out=path, seed=1, lr=0.5, held_out=0.2)
    assert model.auc > 0.99  # measured: 0.997
    by_people = np.array([row["label"] == 1 for row in rows["dclm_human_labels"]])
    found = score_quality(texts["dclm_human_labels"], path).to_numpy()
    assert _auc(found[by_people], found[~by_people]) > 0.74  # measured: 0.776
