import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.config import from_mapping
from mixtures.examples import POOL, Forms, Wanted, make_examples
from mixtures.fewshot import question_key
from mixtures.plan import Leaf, plan_of
from mixtures.tasks import Documents, Task
from mixtures.tokenizer import load_tokenizer
from mixtures.variants import Variants

BYTES = load_tokenizer("bytes")
TASK = from_mapping(
    Task,
    {
        "id": "sums",
        "source": {"path": "x"},
        "fields": {"q": "q", "a": "a", "why": "w"},
        "answer": "a",
        "rationale": "why",
        "templates": [
            {"id": "ask", "input": "Q: {{ q }} ", "target": " {{ a }}"},
            {"id": "bare", "input": "{{ q }}", "target": "{{ a }}"},
            {"id": "steps", "cot": True, "input": "{{ q }} Why?", "target": "{{ why }} So {{ a }}."},
        ],
    },
)


def instances_of(rows):
    """Checked rows of TASK: (question, answer, rationale)."""
    lengths = [
        [len(f"Q: {q}\n{a}".encode()), len(f"{q}\n{a}".encode()), len(f"{q} Why?\n{why} So {a}.".encode())]
        for q, a, why in rows
    ]
    return pa.table(
        {
            "source": pa.nulls(len(rows), pa.string()),
            "id": [f"r{i}" for i in range(len(rows))],
            "keys": pa.array([[question_key(q)] * 3 for q, _, _ in rows], pa.list_(pa.int64())),
            "lengths": pa.array(lengths, pa.list_(pa.int32())),
            "field:q": [q for q, _, _ in rows],
            "field:a": [a for _, a, _ in rows],
            "field:why": [why for _, _, why in rows],
        }
    )


def sums(n):
    return [(f"what is {i} + {i % 7}", str(i + i % 7), f"{i} and {i % 7} more") for i in range(n)]


def forms_of(length=400, *, truncates=False):
    return Forms(BYTES, length, "\n", "\n\n", truncates, (False, True))


def make(rows, n, *, variants=None, length=400, truncates=False, seed=0):
    """The first n examples of a leaf over the rows."""
    variants = variants or Variants(shots={0: 0.5, 3: 0.5}, cot={0: 0.5, 1: 0.5})
    leaf = Leaf("all.sums", len(rows), variants.for_plan(TASK))
    epoch, row, variant, template = plan_of([leaf], {leaf.name: 1}, seed=seed, examples=n).examples_of(
        0, np.arange(n)
    )
    wanted = Wanted(row, epoch, variant, template)
    table, counts = make_examples(
        TASK, leaf, instances_of(rows), wanted, forms_of(length, truncates=truncates), seed=seed
    )
    table.validate(full=True)
    assert table.schema == POOL
    return table.to_pylist(), counts


def test_an_example_is_the_rendered_row_framed_by_bos_and_eos_with_loss_on_target_and_eos():
    rows = sums(3)
    examples, _ = make(rows, 3, variants=Variants())
    for made in examples:
        q, a, _ = rows[made["row"]]
        given_text = f"Q: {q}" if made["template"] == "ask" else q
        assert (made["id"], made["input"], made["target"]) == (f"r{made['row']}", given_text, a)
        given_tokens = [1, *(b + 3 for b in f"{given_text}\n".encode())]
        target_tokens = [*(b + 3 for b in a.encode()), 2]
        assert made["tokens"] == given_tokens + target_tokens
        assert made["loss"] == [0.0] * len(given_tokens) + [1.0] * len(target_tokens)
        assert made["pieces"] == [
            {"role": "input", "text": given_text, "loss": 0.0},
            {"role": "between", "text": "\n", "loss": 0.0},
            {"role": "target", "text": a, "loss": 1.0},
        ]


def test_a_chain_of_thought_target_reasons_first_and_answers_last():
    rows = sums(5)
    for made in make(rows, 5, variants=Variants(cot={1: 1.0}))[0]:
        q, a, why = rows[made["row"]]
        assert (made["variant"], made["input"], made["target"]) == (
            "0shot+cot",
            f"{q} Why?",
            f"{why} So {a}.",
        )


def test_exemplars_are_other_rows_rendered_by_the_template_of_the_query():
    rows = sums(50)
    renders = {
        "ask": lambda q, a, why: f"Q: {q}\n{a}\n\n",
        "bare": lambda q, a, why: f"{q}\n{a}\n\n",
        "steps": lambda q, a, why: f"{q} Why?\n{why} So {a}.\n\n",
    }
    seen = set()
    for made in make(rows, 100)[0]:
        shown = [piece["text"] for piece in made["pieces"] if piece["role"] == "exemplar"]
        assert len(shown) == (3 if made["variant"].startswith("3shot") else 0)
        others = {renders[made["template"]](*row) for i, row in enumerate(rows) if i != made["row"]}
        assert set(shown) <= others and len(set(shown)) == len(shown)
        assert made["input"].startswith("".join(shown))
        seen.add((made["variant"], made["template"]))
    assert len(seen) == 6


def test_pieces_join_to_what_was_tokenised():
    for made in make(sums(40), 80)[0]:
        texts = [piece["text"] for piece in made["pieces"]]
        assert BYTES.decode(made["tokens"]) == "".join(texts)
        assert [piece["loss"] for piece in made["pieces"]] == [0.0] * (len(texts) - 1) + [1.0]
        assert "".join(texts[:-2]) == made["input"]


@settings(max_examples=30)
@given(
    st.lists(
        st.sampled_from(["what is 1 + 1?", "What is 1+1", "why", "who?", "Who", "where is it"]),
        min_size=2,
        max_size=12,
    )
)
def test_no_exemplar_asks_the_question_of_its_query(questions):
    rows = [(q, str(i), "because") for i, q in enumerate(questions)]
    for made in make(rows, 24, variants=Variants(shots={3: 1.0}))[0]:
        own = question_key(rows[made["row"]][0])
        for piece in made["pieces"]:
            if piece["role"] == "exemplar":
                asked = piece["text"].split("\n")[0].removeprefix("Q: ")
                assert question_key(asked) != own


@settings(max_examples=30)
@given(st.lists(st.integers(1, 40), min_size=4, max_size=20), st.integers(60, 200))
def test_few_shot_examples_fit_whatever_the_lengths(sizes, length):
    rows = [
        ("q" * size + str(i), "a" * (size // 4 + 1), "w" * (size // 2 + 1)) for i, size in enumerate(sizes)
    ]
    rows = [
        row
        for row, sizes_ in zip(rows, instances_of(rows)["lengths"].to_pylist(), strict=True)
        if max(sizes_) + 2 <= length
    ]
    if len(rows) < 2:
        return
    examples, counts = make(rows, 30, length=length)
    assert all(len(made["tokens"]) <= length for made in examples)
    assert counts["shots_given"] <= counts["shots_wanted"] and counts["truncated"] == 0
    # nothing of the query or the target is lost
    for made in examples:
        q, a, why = rows[made["row"]]
        assert q in made["input"] and made["target"] == (f"{why} So {a}." if "cot" in made["variant"] else a)


def test_shots_that_do_not_fit_are_counted():
    examples, counts = make(sums(30), 20, variants=Variants(shots={3: 1.0}), length=64)
    shown = sum(piece["role"] == "exemplar" for made in examples for piece in made["pieces"])
    assert counts["shots_wanted"] == 60
    assert 0 < counts["shots_given"] == shown < 60


def test_a_truncated_input_loses_its_start_and_fills_the_row():
    rows = [("first " * 50 + "last é words", "yes", "w")]
    examples, counts = make(rows, 2, variants=Variants(), length=32, truncates=True)
    assert counts["truncated"] == 2
    for made in examples:
        assert len(made["tokens"]) == 32
        assert made["input"].endswith("last é words") and made["target"] == "yes"
        assert BYTES.decode(made["tokens"]) == made["input"] + "\n" + "yes"


def test_a_replacement_character_of_the_text_survives_a_cut():
    rows = [("\ufffd" * 60, "no", "w")]
    for made in make(rows, 2, variants=Variants(), length=32, truncates=True)[0]:
        # bos, 27 bytes of input, between, the two of the target, eos
        assert made["input"] == "\ufffd" * 9
        assert BYTES.decode(made["tokens"]) == made["input"] + "\n" + "no"


def test_a_cut_inside_a_character_drops_the_whole_character():
    rows = [("é" * 60, "no", "w")]
    for made in make(rows, 2, variants=Variants(), length=32, truncates=True)[0]:
        assert set(made["input"]) == {"é"}
        assert len(made["tokens"]) == 32 - 1  # 27 bytes for the input hold 13 characters and half a one


def test_examples_do_not_depend_on_which_others_are_made_with_them():
    rows = sums(60)
    together, _ = make(rows, 40)
    leaf = Leaf("all.sums", len(rows), Variants(shots={0: 0.5, 3: 0.5}, cot={0: 0.5, 1: 0.5}).for_plan(TASK))
    epoch, row, variant, template = plan_of([leaf], {leaf.name: 1}, seed=0, examples=1).examples_of(0, [31])
    alone, _ = make_examples(
        TASK, leaf, instances_of(rows), Wanted(row, epoch, variant, template), forms_of(), seed=0
    )
    assert alone.to_pylist() == [together[31]]


def test_a_document_is_its_own_target_to_the_last_character():
    task = Documents("runs/x").task()
    texts = ["  indented\n", "\n", "plain text {{ not a template }} <eos>"]
    instances = pa.table(
        {
            "source": ["web"] * 3,
            "id": [f"d@{i}" for i in range(3)],
            "keys": pa.array([[0]] * 3, pa.list_(pa.int64())),
            "lengths": pa.array([[len(t)] for t in texts], pa.list_(pa.int32())),
            "field:text": texts,
        }
    )
    leaf = Leaf("text.documents", 3, Variants().for_plan(task))
    zero = np.zeros(3, np.int64)
    wanted = Wanted(np.arange(3), zero, zero, zero)
    table, _ = make_examples(task, leaf, instances, wanted, forms_of(), seed=0)
    for made, text in zip(table.to_pylist(), texts, strict=True):
        assert (made["source"], made["input"], made["target"]) == ("web", "", text)
        assert made["tokens"] == [1, *(b + 3 for b in text.encode()), 2]
        assert made["loss"] == [0.0] + [1.0] * (len(text) + 1)
        assert made["pieces"] == [{"role": "target", "text": text, "loss": 1.0}]


def test_no_wanted_examples_make_an_empty_table():
    nothing = np.zeros(0, np.int64)
    leaf = Leaf("all.sums", 3, Variants().for_plan(TASK))
    table, counts = make_examples(
        TASK, leaf, instances_of(sums(3)), Wanted(nothing, nothing, nothing, nothing), forms_of(), seed=0
    )
    assert table.schema == POOL and table.num_rows == 0
    assert counts == {"shots_wanted": 0, "shots_given": 0, "truncated": 0}


@pytest.mark.parametrize("seed", [0, 1])
def test_another_seed_draws_other_exemplars(seed):
    first, second = (
        make(sums(50), 10, variants=Variants(shots={3: 1.0}), seed=s)[0] for s in (seed, seed + 10)
    )
    assert first != second
    assert first == make(sums(50), 10, variants=Variants(shots={3: 1.0}), seed=seed)[0]
