import json
import math

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from filters.errors import ConfigError, DataError, RunError
from mixtures.train import (
    Recipe,
    Shape,
    build_model,
    fine_tune,
    load_model,
    pretrain,
    read_batches,
    save_model,
    train,
)
from mixtures.train.masks import target_nll

STEP = Recipe(steps=2, tokens_per_step=4 * 48, learning_rate=3e-3, warmup=1)


def losses(result):
    return [record.loss for record in result.steps]


def weights_of(model):
    return {name: weights.detach().clone() for name, weights in model.named_parameters()}


def test_the_loss_is_the_weighted_mean_over_the_whole_step(decoder, rows, make):
    weighted = [
        [(tokens, [w * (1 + i) for w in loss]) for i, (tokens, loss) in enumerate(row)] for row in rows
    ]
    model, total, weight = decoder(), 0.0, 0.0
    for row in weighted[:4]:
        for tokens, loss in row:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].double()
            for place, w in enumerate(loss):
                if w > 0:
                    total -= w * logits[place - 1].log_softmax(0)[tokens[place]].item()
                    weight += w
    first = train(model, make["packs"](weighted), STEP, device="cpu").steps[0]
    assert first.loss == pytest.approx(total / weight, rel=1e-6)
    assert first.tokens == sum(len(tokens) for row in rows[:4] for tokens, _ in row)
    assert first.target_tokens == sum(w > 0 for row in rows[:4] for _, loss in row for w in loss)


def first_step(model, packs, micro_rows):
    """The record of one step of all eight rows, and the gradients that reached the optimizer."""
    seen = []
    handle = register_optimizer_step_pre_hook(
        lambda optimizer, *_: seen.extend(w.grad.clone() for g in optimizer.param_groups for w in g["params"])
    )
    try:
        recipe = Recipe(steps=1, tokens_per_step=8 * 48, clip=1e9)
        return train(model, packs, recipe, device="cpu", micro_rows=micro_rows).steps[0], seen
    finally:
        handle.remove()


@pytest.mark.parametrize("micro_rows", [1, 2, 3])
def test_micro_batches_change_nothing_but_rounding(decoder, packs, micro_rows):
    one, whole = first_step(decoder(), packs, None)
    other, cut = first_step(decoder(), packs, micro_rows)
    assert other.loss == pytest.approx(one.loss, rel=1e-6)
    assert (other.tokens, other.target_tokens) == (one.tokens, one.target_tokens)
    scale = max(gradient.abs().max() for gradient in whole)
    assert len(whole) == len(cut) == len(list(decoder().parameters()))
    for a, b in zip(whole, cut, strict=True):
        assert (a - b).abs().max() <= 1e-6 * scale


def test_a_mean_of_the_means_of_micro_batches_would_have_been_another_loss(decoder, packs):
    """The rows above hold unequal numbers of targets; otherwise the test of micro-batches would show nothing."""
    model = decoder()
    batch = next(read_batches(packs, tokens_per_step=4 * 48, steps=1, vocab_size=97))
    with torch.no_grad():
        means = [target_nll(model, batch.rows(row, row + 1))[0].mean().item() for row in range(4)]
    assert sum(means) / 4 != pytest.approx(losses(train(model, packs, STEP, device="cpu"))[0], rel=1e-3)


def test_the_same_run_twice_gives_the_same_losses_and_weights_to_the_last_bit(decoder, packs):
    one, two = decoder(), decoder()
    torch.manual_seed(1)
    first = train(one, packs, STEP, seed=4, device="cpu")
    torch.manual_seed(2)
    assert losses(train(two, packs, STEP, seed=4, device="cpu")) == losses(first)
    assert all(torch.equal(weights, weights_of(two)[name]) for name, weights in weights_of(one).items())


def test_dropout_follows_the_seed_and_leaves_the_generators_of_pytorch_alone(decoder, packs):
    def run(seed):
        model = decoder()
        model.config.attention_dropout = 0.3
        for block in model.model.layers:
            block.self_attn.attention_dropout = 0.3
        return losses(train(model, packs, STEP, seed=seed, device="cpu"))

    torch.manual_seed(9)
    before = torch.get_rng_state()
    one = run(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(10)
    assert run(1) == one
    assert run(2)[0] != one[0]
    assert losses(train(decoder(), packs, STEP, device="cpu"))[0] != one[0]


def test_without_dropout_the_seed_changes_nothing(decoder, packs):
    one, other = (losses(train(decoder(), packs, STEP, seed=seed, device="cpu")) for seed in (1, 2))
    assert one == other


def test_a_model_learns_its_packs(decoder, packs):
    recipe = Recipe(steps=40, tokens_per_step=8 * 48, learning_rate=1e-2, warmup=4, epochs=40)
    found = losses(train(decoder(sharpen=1.0), packs, recipe, device="cpu"))
    assert found[0] == pytest.approx(math.log(97), abs=0.5)  # an untrained model knows nothing
    assert found[-1] < found[0] / 3


def test_the_optimizer_is_adamw_with_clipped_gradients_and_no_decay_of_norms(decoder, packs):
    """One step by hand: after clipping, Adam's first step is the learning rate times the sign of the gradient."""
    model = decoder()
    before = weights_of(model)
    batch = next(read_batches(packs, tokens_per_step=4 * 48, steps=1, vocab_size=97))
    nll, where = target_nll(model, batch)
    parameters = dict(model.named_parameters())
    weights = batch.loss.flatten()[where]
    gradients = torch.autograd.grad((nll * weights).sum() / weights.sum(), list(parameters.values()))
    norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients))
    recipe = Recipe(
        steps=1,
        tokens_per_step=4 * 48,
        learning_rate=1e-3,
        warmup=0,
        schedule="constant",
        weight_decay=0.5,
        clip=0.01,
    )
    record = train(model, packs, recipe, device="cpu").steps[0]
    assert record.gradient_norm == pytest.approx(norm, rel=1e-5)
    assert norm > 0.01  # so the clip is at work
    for (name, weight), gradient in zip(parameters.items(), gradients, strict=True):
        clipped = gradient * (0.01 / norm)
        decayed = before[name] * (1 - 1e-3 * 0.5) if weight.ndim == 2 else before[name]
        expected = decayed - 1e-3 * clipped / (clipped.abs() + 1e-8)
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-4, atol=2e-6)


def test_the_learning_rate_of_each_step_is_the_recipe_s(decoder, packs):
    recipe = Recipe(steps=4, tokens_per_step=96, learning_rate=1e-3, warmup=2)
    found = [record.learning_rate for record in train(decoder(), packs, recipe, device="cpu").steps]
    assert found == [recipe.learning_rate_at(step) for step in (1, 2, 3, 4)]


def test_a_loss_that_is_not_finite_ends_the_run_and_names_step_and_remedy(decoder, packs):
    recipe = Recipe(steps=4, tokens_per_step=96, learning_rate=1e30, warmup=0)
    model = decoder()
    with pytest.raises(
        RunError,
        match=r"step 2: loss .*gradient norm nan.*lower learning_rate \(it was 1e\+30\).*longer warmup \(it was 0",
    ):
        train(model, packs, recipe, device="cpu")
    assert not model.training


def test_a_step_without_targets_is_an_error(decoder, make):
    silent = ([1, 5, 6, 7], [0.0] * 4)
    spoken = ([1, 5, 6, 2], [0.0, 0.0, 1.0, 1.0])
    packs = make["packs"]([[spoken], [silent], [spoken]])
    with pytest.raises(DataError, match=r"step 2: none of its 1 rows holds a target token"):
        train(decoder(), packs, Recipe(steps=3, tokens_per_step=48), device="cpu")
    # beside one with targets it is no error, also where a micro-batch holds none
    train(decoder(), packs, Recipe(steps=1, tokens_per_step=96), device="cpu", micro_rows=1)


def test_rows_longer_than_the_model_are_refused(decoder, packs):
    with pytest.raises(DataError, match=r"rows are 48 tokens long; allowed: 32, the longest"):
        train(decoder(max_length=32), packs, STEP, device="cpu")


def test_a_tokenizer_larger_than_the_model_s_vocabulary_is_noticed(packs):
    model = build_model(Shape(32, 48, 1, 2), vocab_size=50, max_length=48, seed=0)
    with pytest.raises(DataError, match=r"outside the vocabulary of 50.*with the tokenizer of the model"):
        train(model, packs, STEP, device="cpu")


def test_micro_rows_below_one_are_refused(decoder, packs):
    with pytest.raises(ConfigError, match="micro_rows is 0; allowed: 1 or more"):
        train(decoder(), packs, STEP, device="cpu", micro_rows=0)


def test_the_log_has_one_line_a_step_and_progress_gets_each_record(tmp_path, decoder, packs):
    log, seen = tmp_path / "logs" / "arm.jsonl", []
    result = train(decoder(), packs, STEP, device="cpu", log=log, progress=seen.append)
    assert tuple(seen) == result.steps
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line, record in zip(lines, result.steps, strict=True):
        assert line["step"] == record.step
        assert line["loss"] == record.loss
        assert line["target_tokens"] == record.target_tokens
        assert line["tokens_per_second"] == pytest.approx(record.tokens / record.seconds, rel=1e-3)
    assert result.tokens == sum(line["tokens"] for line in lines)
    assert result.target_tokens == sum(line["target_tokens"] for line in lines)
    assert result.seconds == pytest.approx(sum(line["seconds"] for line in lines), abs=1e-4)


def test_the_log_keeps_the_steps_before_a_failure(tmp_path, decoder, packs):
    recipe = Recipe(steps=4, tokens_per_step=96, learning_rate=1e30, warmup=0)
    with pytest.raises(RunError):
        train(decoder(), packs, recipe, device="cpu", log=tmp_path / "log.jsonl")
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1]


def test_fine_tune_is_load_train_and_save(tmp_path, mixture, decoder):
    save_model(decoder(), tmp_path / "base")
    result = fine_tune(tmp_path / "base", mixture, tmp_path / "arm", recipe=STEP, device="cpu")
    model = load_model(tmp_path / "base")
    assert losses(train(model, mixture / "packs", STEP, device="cpu")) == losses(result)
    tuned, base = weights_of(load_model(tmp_path / "arm")), weights_of(load_model(tmp_path / "base"))
    assert all(torch.equal(weights, tuned[name]) for name, weights in weights_of(model).items())
    assert not any(torch.equal(base[name], tuned[name]) for name in base)
    left = [sorted(p.name for p in (tmp_path / name).iterdir()) for name in ("base", "arm")]
    assert left[0] == left[1]  # what save_model writes: no log, no times


def test_pretrain_twice_gives_the_same_checkpoint_and_its_rows_are_the_packs(tmp_path, mixture):
    shape = Shape(hidden=32, feed_forward=48, layers=1, heads=2)
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        log = tmp_path / f"{name}.jsonl"
        pretrain(
            mixture, tmp_path / name, size=shape, vocab_size=97, recipe=STEP, seed=seed, device="cpu", log=log
        )
    files = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two", "other")}
    assert files["one"] == files["two"] != files["other"]
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]  # no log, no times
    assert load_model(tmp_path / "one").config.max_position_embeddings == 48
    assert len((tmp_path / "one.jsonl").read_text().splitlines()) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device")
def test_a_gpu_trains_like_the_cpu_within_bfloat16(decoder, packs):
    on_cpu, on_gpu = decoder(sharpen=1.0), decoder(sharpen=1.0)
    expected = losses(train(on_cpu, packs, STEP, device="cpu"))
    assert losses(train(on_gpu, packs, STEP, device="cuda")) == pytest.approx(expected, rel=2e-2)
    assert next(on_gpu.parameters()).is_cuda
