import doctest

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.errors import RunError
from mixtures.train import attention_mask, masks
from mixtures.train.batches import read_batches
from mixtures.train.masks import hidden_states, target_nll


def first_batch(packs, rows=8):
    return next(read_batches(packs, tokens_per_step=48 * rows, steps=1, vocab_size=97))


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=3))
def test_a_token_may_attend_to_earlier_tokens_of_its_own_segment_and_to_itself_only(segments):
    mask = attention_mask(torch.tensor(segments))
    assert mask.shape == (len(segments), 1, 6, 6) and mask.dtype == torch.bool
    for row, ids in enumerate(segments):
        for query in range(6):
            for key in range(6):
                assert mask[row, 0, query, key] == (ids[query] == ids[key] and key <= query)
        assert mask[row, 0].diagonal().all()  # padding too: no softmax is empty


def test_the_nll_of_targets_is_that_of_a_plain_forward_pass_over_each_example(decoder, rows, packs):
    model = decoder()
    with torch.no_grad():
        nll, where = target_nll(model, first_batch(packs))
    expected, places = [], []
    for row, examples in enumerate(rows):
        start = row * 48
        for tokens, loss in examples:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].double()
            for place, weight in enumerate(loss):
                if weight > 0:
                    expected.append(-logits[place - 1].log_softmax(0)[tokens[place]])
                    places.append(start + place)
            start += len(tokens)
    assert where.tolist() == places
    torch.testing.assert_close(nll.double(), torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_only_the_states_that_predict_a_target_go_through_the_head(decoder, packs):
    model, seen = decoder(), []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    batch = first_batch(packs)
    target_nll(model, batch)
    assert seen == [(int((batch.loss > 0).sum()), 97)]
    assert seen[0][0] < batch.tokens.numel() / 2


def test_padding_gets_finite_states_and_finite_gradients(decoder, make):
    model = decoder()
    batch = first_batch(make["packs"]([[([1, 5, 2], [0.0, 1.0, 1.0])]]), rows=1)
    states = hidden_states(model, batch)
    states.sum().backward()
    assert states.isfinite().all()
    assert all(weights.grad.isfinite().all() for weights in model.parameters())


def test_attention_that_would_add_the_mask_instead_of_applying_it_is_refused(decoder, packs):
    model = decoder()
    model.set_attn_implementation("eager")
    with pytest.raises(RunError, match=r"its attention is 'eager'.*allowed: 'sdpa'.*load_model"):
        hidden_states(model, first_batch(packs))


def test_the_examples_in_the_docstrings_hold():
    found = doctest.testmod(masks)
    assert (found.failed, found.attempted) == (0, 1)
