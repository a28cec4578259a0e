import doctest
import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from filters.errors import ConfigError, DataError
from mixtures.train import bits_per_byte, bits_per_byte_by_dataset, evaluate, score


def nats(model, tokens, places):
    """Nats of the tokens at ``places`` by a plain forward pass over ``tokens``."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].double()
    return [-logits[place - 1].log_softmax(0)[tokens[place]].item() for place in places]


def values(scores, name):
    return scores.column(name).to_pylist()


def test_the_score_of_an_item_is_that_of_a_plain_forward_pass_without_the_end_of_sequence(
    decoder, examples, make
):
    model = decoder()
    found = score(model, make["items"](examples), device="cpu")
    for row, (tokens, loss) in enumerate(examples):
        targets = nats(model, tokens, [place for place, w in enumerate(loss) if w > 0])
        assert found["nll"][row].as_py() == pytest.approx(sum(targets[:-1]), rel=1e-5, abs=1e-6)
        assert found["eos_nll"][row].as_py() == pytest.approx(targets[-1], rel=1e-5)
        assert found["target_tokens"][row].as_py() == len(targets) - 1
        assert found["target_bytes"][row].as_py() == 2 * (len(targets) - 1)
    assert values(found, "truncated") == [0] * 20


def test_the_table_keeps_rows_and_names_of_the_items(decoder, mixture, examples):
    found = score(decoder(), mixture / "eval", device="cpu")
    assert values(found, "id") == [f"item-{i}" for i in range(20)]
    assert values(found, "dataset") == ["a", "b"] * 10
    assert {field.name: str(field.type) for field in found.schema} == {
        "id": "string",
        "task": "string",
        "dataset": "string",
        "template": "string",
        "variant": "string",
        "nll": "double",
        "eos_nll": "double",
        "target_tokens": "int64",
        "target_bytes": "int64",
        "truncated": "int64",
    }


def test_scores_do_not_depend_on_what_else_is_in_the_batch(decoder, examples, make):
    model, items = decoder(), make["items"](examples)
    whole = score(model, items, device="cpu")
    for batch_tokens in (1, 64, 10**6):  # one item a batch, a few, all
        found = score(model, items, device="cpu", batch_tokens=batch_tokens)
        np.testing.assert_allclose(values(found, "nll"), values(whole, "nll"), rtol=1e-5, atol=1e-6)
    alone = pa.concat_tables([score(model, items.slice(i, 1), device="cpu") for i in range(20)])
    np.testing.assert_allclose(values(alone, "nll"), values(whole, "nll"), rtol=1e-5, atol=1e-6)


def test_the_order_of_the_items_changes_no_bit(decoder, examples, make):
    model, items = decoder(), make["items"](examples)
    order = np.random.default_rng(0).permutation(20)
    shuffled = score(model, items.take(order), device="cpu", batch_tokens=100)
    assert shuffled.equals(score(model, items, device="cpu", batch_tokens=100).take(order))


def test_a_model_that_knows_nothing_needs_log2_of_the_vocabulary_for_each_token(decoder, examples, make):
    model = decoder()
    model.model.norm.weight.data.zero_()  # all logits are 0
    scores = score(model, make["items"](examples), device="cpu")
    tokens = values(scores, "target_tokens")
    assert values(scores, "nll") == pytest.approx([n * math.log(97) for n in tokens], rel=1e-6)
    # the items say two bytes a token
    assert bits_per_byte(scores) == pytest.approx(math.log2(97) / 2, rel=1e-6)


def test_a_long_item_loses_the_left_end_of_its_input_but_not_its_first_token(decoder, make):
    rng = np.random.default_rng(3)
    tokens = [1, *rng.integers(3, 97, 70).tolist(), 2]  # 72 tokens for rows of 48, 10 of them target
    loss = [0.0] * 62 + [1.0] * 10
    model = decoder()
    found = score(model, make["items"]([(tokens, loss)]), device="cpu")
    fed = tokens[:1] + tokens[-47:]
    expected = nats(model, fed, range(38, 48))
    assert found["nll"][0].as_py() == pytest.approx(sum(expected[:-1]), rel=1e-5)
    assert found["eos_nll"][0].as_py() == pytest.approx(expected[-1], rel=1e-5)
    assert (found["truncated"][0].as_py(), found["target_tokens"][0].as_py()) == (72 - 48, 9)


def test_an_item_that_just_fits_is_not_truncated(decoder, make):
    examples = make["examples"](np.random.default_rng(4), [47, 48, 49])
    assert values(score(decoder(), make["items"](examples), device="cpu"), "truncated") == [0, 0, 1]


def test_a_target_longer_than_a_row_is_scored_whole_in_windows(decoder, make):
    rng = np.random.default_rng(5)
    tokens = [1, *rng.integers(3, 97, 98).tolist(), 2]  # 100 tokens, targets from place 30 on
    loss = [0.0] * 30 + [1.0] * 70
    model, expected = decoder(), []
    for start in (30, 54, 78):  # 24 at a time, each window ends with them and begins with the first token
        stop = min(start + 24, 100)
        begin = max(1, stop - 47)
        fed = tokens[:1] + tokens[begin:stop]
        expected += nats(model, fed, range(1 + start - begin, len(fed)))
    found = score(model, make["items"]([(tokens, loss)]), device="cpu")
    assert found["nll"][0].as_py() == pytest.approx(sum(expected[:-1]), rel=1e-5)
    assert found["eos_nll"][0].as_py() == pytest.approx(expected[-1], rel=1e-5)
    # the first window begins at 54 - 47 = 7: six tokens of the input are in none
    assert (found["truncated"][0].as_py(), found["target_tokens"][0].as_py()) == (6, 69)


def test_places_of_weight_zero_between_targets_are_given_not_scored(decoder, make):
    tokens, loss = [1, 5, 6, 7, 8, 9, 2], [0.0, 0.0, 1.0, 0.0, 0.5, 0.0, 1.0]
    model = decoder()
    found = score(model, make["items"]([(tokens, loss)]), device="cpu")
    assert found["nll"][0].as_py() == pytest.approx(sum(nats(model, tokens, [2, 4])), rel=1e-5)
    assert found["target_tokens"][0].as_py() == 2


def test_scoring_leaves_the_model_as_it_was(decoder, examples, make):
    model = decoder().train()
    before = {name: weights.clone() for name, weights in model.named_parameters()}
    score(model, make["items"](examples), device="cpu")
    assert model.training
    assert all(torch.equal(weights, before[name]) for name, weights in model.named_parameters())
    assert all(weights.grad is None for weights in model.parameters())


def test_no_items_give_an_empty_table(decoder, examples, make):
    found = score(decoder(), make["items"](examples).slice(0, 0), device="cpu")
    assert found.num_rows == 0 and found.schema.field("nll").type == pa.float64()


@pytest.mark.parametrize(
    ("tokens", "loss", "found"),
    [
        ([1, 5, 6], [0.0, 1.0, 1.0], "3 tokens, 3 loss weights"),  # no end of sequence
        ([1, 5, 2], [0.0, 1.0, 0.0], "3 tokens, 3 loss weights"),  # which is not scored
        ([5, 6, 2], [1.0, 1.0, 1.0], "3 tokens, 3 loss weights"),  # nothing to predict the first from
        ([1, 5, 2], [0.0, 1.0], "3 tokens, 2 loss weights"),
        ([], [], "0 tokens, 0 loss weights"),
        ([1, 97, 2], [0.0, 1.0, 1.0], "token ids from 1 to 97, vocabulary 97"),
        ([1, -5, 2], [0.0, 1.0, 1.0], "token ids from -5 to 2, vocabulary 97"),
    ],
)
def test_an_item_that_breaks_the_contract_is_refused_by_its_place_and_id(decoder, make, tokens, loss, found):
    items = make["items"]([([1, 5, 2], [0.0, 1.0, 1.0]), (tokens, loss)])
    with pytest.raises(
        DataError, match=rf"eval: item 1 \(id 'item-1'\): {found}; allowed: .*end of sequence \(id 2\)"
    ):
        score(decoder(), items, device="cpu")


def test_missing_columns_and_empty_batches_are_refused(decoder, examples, make):
    items = make["items"](examples)
    with pytest.raises(DataError, match=r"eval: no column dataset, target_bytes; found id, task, template"):
        score(decoder(), items.drop_columns(["dataset", "target_bytes"]), device="cpu")
    with pytest.raises(ConfigError, match="batch_tokens is 0; allowed: 1 or more"):
        score(decoder(), items, device="cpu", batch_tokens=0)


def test_bits_per_byte_counts_bytes_over_all_items_and_over_each_dataset():
    scores = pa.table(
        {
            "dataset": ["b", "a", "b"],
            "nll": [math.log(2) * 6, math.log(2) * 3, math.log(2) * 10],
            "target_bytes": [3, 3, 1],
        }
    )
    assert bits_per_byte(scores) == pytest.approx(19 / 7)
    assert list(bits_per_byte_by_dataset(scores).items()) == [
        ("a", pytest.approx(1.0)),
        ("b", pytest.approx(4.0)),
    ]


def test_bits_per_byte_of_no_bytes_is_an_error():
    for targets in ([], [0, 0]):
        scores = pa.table(
            {
                "nll": pa.array([1.0] * len(targets), pa.float64()),
                "target_bytes": pa.array(targets, pa.int64()),
            }
        )
        with pytest.raises(DataError, match="the targets have no bytes"):
            bits_per_byte(scores)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device")
def test_a_gpu_scores_like_the_cpu(decoder, examples, make):
    items = make["items"](examples)
    expected = score(decoder(), items, device="cpu")
    found = score(decoder(), items, device="cuda")
    np.testing.assert_allclose(values(found, "nll"), values(expected, "nll"), rtol=1e-4)


def test_the_examples_in_the_docstrings_hold():
    found = doctest.testmod(evaluate)
    assert (found.failed, found.attempted) == (0, 2)
