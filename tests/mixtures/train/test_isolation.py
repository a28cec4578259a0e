"""Packed = alone, the permanent test: computed here by hand, and by the check with which every run begins."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from filters.errors import RunError
from mixtures.train import Batch, Recipe, check_isolation, read_batches, train
from mixtures.train.masks import hidden_states, target_nll


def first_batch(packs):
    return next(read_batches(packs, tokens_per_step=48 * 8, steps=1, vocab_size=97))


def gpt2():
    """Learned absolute positions: exact only if positions restart in each example."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        config = GPT2Config(
            vocab_size=97, n_embd=32, n_layer=2, n_head=2, n_positions=48, bos_token_id=1, eos_token_id=2
        )
        model = GPT2LMHeadModel(config).eval()
    for name, weights in model.named_parameters():
        if weights.ndim == 2 and "wte" not in name:
            weights.data.mul_(4)
    return model


def leaks(module, inputs, output):
    """Every token's embedding gets a little of all tokens before it in the row."""
    return output + 0.01 * output.cumsum(dim=1)


@pytest.fixture(params=["llama", "gpt2"])
def model(request, decoder):
    return decoder() if request.param == "llama" else gpt2()


def test_logits_in_a_pack_are_those_alone(model, rows, packs):
    batch = first_batch(packs)
    lengths = [len(tokens) for row in rows for tokens, _ in row]
    assert 1 in lengths and bool((batch.segments == 0).any())
    with torch.no_grad():
        packed = model.get_output_embeddings()(hidden_states(model, batch))
        for row, examples in enumerate(rows):
            start = 0
            for tokens, _ in examples:
                alone = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
                together = packed[row, start : start + len(tokens)]
                assert (together - alone).abs().max() <= 1e-5 * alone.abs().max()
                start += len(tokens)


def test_gradients_of_a_pack_are_the_sum_of_those_alone(model, rows, packs):
    batch = first_batch(packs)
    nll, where = target_nll(model, batch)
    packed = torch.autograd.grad((nll * batch.loss.flatten()[where]).sum(), list(model.parameters()))
    total = torch.zeros(())
    for examples in rows:
        for tokens, loss in examples:
            logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
            for place, weight in enumerate(loss):
                if weight > 0:
                    total = total - weight * logits[place - 1].log_softmax(0)[tokens[place]]
    alone = torch.autograd.grad(total, list(model.parameters()))
    for (name, _), one, other in zip(model.named_parameters(), packed, alone, strict=True):
        assert other.abs().max() > 0, name
        assert (one - other).abs().max() <= 1e-4 * other.abs().max(), name


def test_the_check_counts_the_examples_and_finds_only_rounding(model, rows, packs):
    found = check_isolation(model, first_batch(packs))
    assert found.examples == sum(len(row) for row in rows)
    assert found.logit_error < 1e-5
    assert found.gradient_error < 1e-4


def test_the_check_stops_after_the_rows_that_hold_its_tokens(decoder, rows, packs):
    assert check_isolation(decoder(), first_batch(packs), max_tokens=100).examples == len(rows[0] + rows[1])
    assert check_isolation(decoder(), first_batch(packs), max_tokens=1).examples == len(rows[0])


def test_the_check_leaves_mode_and_gradients_as_they_were(decoder, packs):
    model = decoder().train()
    check_isolation(model, first_batch(packs))
    assert model.training
    assert all(weights.grad is None for weights in model.parameters())


def test_training_refuses_a_model_that_lets_examples_see_each_other(decoder, packs):
    model = decoder()
    model.model.embed_tokens.register_forward_hook(leaks)
    before = {name: weights.clone() for name, weights in model.named_parameters()}
    with pytest.raises(RunError, match=r"do not stay apart.*allowed: 1e-05 and 0.0001\. Nothing was trained"):
        train(model, packs, Recipe(steps=1, tokens_per_step=192), device="cpu")
    assert all(torch.equal(weights, before[name]) for name, weights in model.named_parameters())
    assert not model.training


def test_positions_that_run_on_across_examples_are_caught_where_they_matter(packs):
    batch = first_batch(packs)
    running = torch.arange(48, dtype=torch.int32).expand(8, 48)
    with pytest.raises(RunError, match="do not stay apart"):
        check_isolation(gpt2(), Batch(batch.tokens, batch.loss, batch.segments, running))


def test_a_model_of_broken_numbers_is_refused_for_that(decoder, packs):
    model = decoder()
    model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(RunError, match=r"logits are not finite numbers before any training.*earlier one"):
        check_isolation(model, first_batch(packs))


def test_numbers_that_break_only_in_a_pack_do_not_pass_for_exact(decoder, packs):
    model = decoder()

    def overflow(module, inputs, output):
        return output * float("inf") if output.shape[1] == 48 and output.shape[0] == 8 else output

    model.model.norm.register_forward_hook(overflow)
    with pytest.raises(RunError, match=r"logits differ from those alone by (nan|inf) of their scale"):
        check_isolation(model, first_batch(packs))


def test_a_batch_without_targets_is_compared_by_its_logits(decoder, make):
    packs = make["packs"]([[([1, 5, 6], [0.0, 0.0, 0.0]), ([1, 9], [0.0, 0.0])]])
    batch = next(read_batches(packs, tokens_per_step=48, steps=1, vocab_size=97))
    found = check_isolation(decoder(), batch)
    assert (found.examples, found.gradient_error) == (2, 0.0)
    assert 0 <= found.logit_error < 1e-5
