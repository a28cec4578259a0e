"""What a decoder computes on packed rows: the mask, the one way to call the model, the loss of target tokens only.

    row        a a a b b b b . .        segments 1 1 1 2 2 2 2 0 0, positions 0 1 2 0 1 2 3 0 1, "." is padding

    mask       a  x . . . . . . . .     token q may attend to token k where segment[q] == segment[k] and k <= q;
               a  x x . . . . . . .     padding is a segment like any other, so every token attends to itself
               a  x x x . . . . . .     at least and no softmax is empty
               b  . . . x . . . . .
               b  . . . x x . . . .

transformers offers three other ways to say this, and each drops the mask without a word in some setting: a 2-D mask
always, ``position_ids`` alone as soon as a cache is made (which is its default), a 4-D boolean mask under "eager"
attention (it is added as 0 and 1). So the model is called in one place, ``hidden_states``.

Price: the dense mask makes attention quadratic in the row's length, whatever the lengths of the examples: with the
1M decoder a third of a step at 512 tokens a row, half of it at 1,024.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from filters.errors import RunError
from mixtures.train.batches import Batch


def attention_mask(segments: Tensor) -> Tensor:
    """Who may attend to whom: (rows, length) segment ids to (rows, 1, length, length) bool, True = may attend.

    >>> attention_mask(torch.tensor([[1, 2, 2]]))[0, 0].int().tolist()
    [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    """
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()  # (length, length)
    return ((segments[:, :, None] == segments[:, None, :]) & causal)[:, None]  # (rows, 1, length, length)


def hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The last hidden state of every token, (rows, length, hidden): each segment as if it were alone.

    Raises:
        RunError: the model's attention would not honour a boolean mask.
    """
    attention = model.config._attn_implementation
    if attention != "sdpa":
        raise RunError(
            f"model: its attention is {attention!r}, which does not honour the mask of packed rows; allowed: 'sdpa'. "
            f"Call model.set_attn_implementation('sdpa'), or read the model with load_model"
        )
    return model.base_model(
        input_ids=batch.tokens,
        position_ids=batch.positions,
        attention_mask=attention_mask(batch.segments),
        use_cache=False,
    ).last_hidden_state


def target_nll(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """The negative log-likelihood of every target token, in nats (fp32), and where it stands.

    The token at position t is predicted from the hidden state at t - 1. Only the hidden states that predict a target
    go through the head, so its price follows the targets, not the tokens.

    Returns:
        (targets,) nats in row order, and the (targets,) index of each token in the flattened batch.
    """
    hidden = hidden_states(model, batch)
    where = batch.loss.flatten().nonzero().squeeze(1)  # (targets,)
    predicting = hidden.flatten(0, 1).index_select(0, where - 1)  # (targets, hidden)
    logits = model.get_output_embeddings()(predicting).float()  # (targets, vocab)
    return cross_entropy(logits, batch.tokens.flatten()[where].long(), reduction="none"), where
