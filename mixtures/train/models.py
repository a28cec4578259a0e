"""Decoders: built from a size and a seed, or read from and written to a directory that transformers can load.

Any causal language model of transformers that computes attention through PyTorch's ``scaled_dot_product_attention``
can be read; whether its packed rows are exact is not believed but checked before training (isolation.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from filters.errors import ConfigError
from mixtures.draws import key_of
from mixtures.train.recipe import SIZES, Shape

PAD, BOS, EOS = 0, 1, 2  # the special ids of every tokenizer of ours


def build_model(size: str | Shape, *, vocab_size: int, max_length: int, seed: int) -> LlamaForCausalLM:
    """An untrained Llama decoder in fp32: rotary positions, RMS norms, SiLU gates, embedding and head tied.

    The weights depend on ``seed`` and on each parameter's name only, not on PyTorch's generators, which are left as
    they were. All are normal; their standard deviations are

        embedding                       0.1
        what reads the residual stream  1 / sqrt(3 x inputs), PyTorch's own for linear layers
        attention's output              that over sqrt(2 x layers) (Radford et al. 2019, "Language models are
                                        unsupervised multitask learners", section 2.3)
        feed-forward's output           2 / sqrt(inputs): louder than the embedding, because a short run learns first
                                        which token follows which, and with a tied head that is the feed-forward's work

    After 60 steps of 4,096 tokens of English documents the 1M decoder stands 0.8 nats a token lower than from 0.02
    everywhere (5.5 and 6.3), each at the best learning rate tried (8e-3 and 3e-3).

    Args:
        size: a name in ``SIZES`` or a shape of one's own.
        vocab_size: number of token ids.
        max_length: longest row that the model will see, in tokens.
        seed: of the weights.

    Raises:
        ConfigError: no size has this name.

    >>> model = build_model("1M", vocab_size=2048, max_length=512, seed=0)
    >>> model.num_parameters()
    1049472
    """
    if isinstance(size, str):
        if size not in SIZES:
            raise ConfigError(f"model size {size!r}: no such size; allowed: {', '.join(SIZES)}, or a Shape")
        size = SIZES[size]
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=size.hidden,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    with torch.random.fork_rng(devices=[]):  # the constructor draws weights too; ours replace them below
        model = LlamaForCausalLM(config)
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.copy_(_initial(name, weights, layers=size.layers, seed=seed))
    return model.eval()


def load_model(directory: Path | str) -> PreTrainedModel:
    """A causal language model in fp32 from a checkpoint directory; nothing is downloaded and no pickle is read.

    Raises:
        ConfigError: the directory holds no complete checkpoint of a causal language model.
    """
    directory = Path(directory)
    if not (directory / "config.json").is_file():
        raise ConfigError(
            f"checkpoint {directory}: no config.json there; allowed: a directory written by save_model or by "
            f"transformers' save_pretrained"
        )
    try:
        with _quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                directory,
                attn_implementation="sdpa",
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"checkpoint {directory}: {type(error).__name__}: {error}. Allowed: a causal language model with "
            f"safetensors weights that transformers {transformers.__version__} knows and runs with sdpa attention"
        ) from error
    model, loading = loaded  # with output_loading_info, the annotation of transformers does not know
    if loading["missing_keys"]:
        # transformers would go on with random weights in their place
        missing = ", ".join(sorted(loading["missing_keys"])[:3])
        raise ConfigError(
            f"checkpoint {directory}: {len(loading['missing_keys'])} weights are missing, among them {missing}; "
            f"allowed: a complete checkpoint. Write it again with save_model"
        )
    assert isinstance(model, PreTrainedModel)
    return model.eval()


def save_model(model: PreTrainedModel, directory: Path | str) -> None:
    """Write config and weights (safetensors) so that ``load_model`` and transformers' from_pretrained read them."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    with _quiet():
        model.save_pretrained(directory)


def pick_device(name: str) -> torch.device:
    """The device of a name: ``auto`` is the GPU where there is one, else the CPU.

    Raises:
        ConfigError: PyTorch does not know the name, or has no such device here.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r}: no such device; allowed: auto, cpu, cuda, cuda:0, cuda:1, ...")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r}: PyTorch sees {torch.cuda.device_count()} CUDA devices here; use 'auto' or 'cpu', or "
            f"install a CUDA build of torch"
        )
    return device


def _initial(name: str, like: Tensor, *, layers: int, seed: int) -> Tensor:
    if like.ndim < 2:
        return torch.ones_like(like)  # the scales of the norms; the decoder has no biases
    inputs = like.shape[1]
    deviation = (3 * inputs) ** -0.5
    if name.endswith("embed_tokens.weight"):
        deviation = 0.1
    elif name.endswith("o_proj.weight"):
        deviation /= (2 * layers) ** 0.5
    elif name.endswith("down_proj.weight"):
        deviation = 2 * inputs**-0.5
    draws = np.random.default_rng([seed, key_of(name)]).standard_normal(tuple(like.shape), dtype=np.float32)
    return torch.from_numpy(draws * np.float32(deviation))


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no notices of transformers inside; its settings are put back afterwards."""
    verbosity, has_bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if has_bars:
            transformers_logging.enable_progress_bar()
