"""Text to token ids and back: bytes, a byte-level BPE trained here, or any tokenizer.json.

Three special ids frame every example: *bos* before it, *eos* after its target, *pad* where a row is empty. In our own
tokenizers they are 0 (pad), 1 (bos) and 2 (eos). Special tokens never come out of text: a document that contains
``<eos>`` literally gets the ids of those five characters.

The byte tokenizer needs no training and no library: id = byte + 3. The BPE splits as GPT-2 does (Radford et al. 2019)
and starts from all 256 bytes, so both decode to exactly what was encoded. Training is deterministic: one thread, ties
between merges broken by the ids of their parts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from filters.errors import DataError, MissingExtra

if TYPE_CHECKING:
    import tokenizers

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>")
# What other makers call the three, most explicit first; a maker with one end-of-text token uses it for all three.
_NAMES = {
    "pad": ("<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>", "<|endoftext|>"),
    "bos": ("<bos>", "<s>", "<|begin_of_text|>", "<|startoftext|>", "[CLS]", "<|endoftext|>"),
    "eos": ("<eos>", "</s>", "<|end_of_text|>", "<|im_end|>", "[SEP]", "<|endoftext|>"),
}


class Tokenizer(Protocol):
    """What the rest of the project asks of a tokenizer.

    Attributes:
        size: number of ids; every id lies in [0, size).
        pad, bos, eos: the special ids.
        digest: SHA-256 (hexadecimal) of what defines the tokenizer.
    """

    @property
    def size(self) -> int: ...
    @property
    def pad(self) -> int: ...
    @property
    def bos(self) -> int: ...
    @property
    def eos(self) -> int: ...
    @property
    def digest(self) -> str: ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without special ids."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; special ids give nothing, broken UTF-8 gives U+FFFD."""


@dataclass(frozen=True, slots=True)
class ByteTokenizer:
    """id = byte + 3.

    >>> ByteTokenizer().encode(["aé"]), ByteTokenizer().decode([1, 100, 198, 172, 2])
    ([[100, 198, 172]], 'aé')
    """

    size: int = 259
    pad: int = 0
    bos: int = 1
    eos: int = 2
    digest: str = hashlib.sha256(b"bytes").hexdigest()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """See ``Tokenizer``."""
        return [
            (np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32) + 3).tolist() for text in texts
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """See ``Tokenizer``."""
        return bytes(i - 3 for i in ids if i >= 3).decode(errors="replace")


@dataclass(frozen=True, slots=True)
class JsonTokenizer:
    """A tokenizer in the JSON format of Hugging Face's ``tokenizers``."""

    model: tokenizers.Tokenizer = field(repr=False, compare=False)
    digest: str
    size: int
    pad: int
    bos: int
    eos: int

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """See ``Tokenizer``."""
        encodings = self.model.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """See ``Tokenizer``."""
        return self.model.decode(list(ids), skip_special_tokens=True)


def load_tokenizer(source: str | Path) -> Tokenizer:
    """The tokenizer that ``source`` names.

    Args:
        source: ``"bytes"``, a tokenizer.json, or a directory: of a mixture or a model, whose tokenizer.json is taken;
            a mixture directory without one was made with bytes.

    Raises:
        DataError: there is no such file, or it is no tokenizer, or it names no end of text.
    """
    if source == "bytes":
        return ByteTokenizer()
    path = Path(source)
    if path.is_dir():
        if not (path / "tokenizer.json").is_file() and (path / "plan.json").is_file():
            return ByteTokenizer()
        path = path / "tokenizer.json"
    if not path.is_file():
        raise DataError(
            f"tokenizer: no file {path}; allowed are 'bytes', a tokenizer.json or a directory that has one"
        )
    return _from_json(path.read_text(encoding="utf-8"), str(path))


def train_bpe(texts: Iterable[str], vocab_size: int) -> str:
    """A byte-level BPE of ``vocab_size`` ids, trained on ``texts``, as the text of a tokenizer.json.

    The vocabulary is smaller where the texts hold fewer pairs. Memory: the distinct words of the texts.

    >>> train_bpe(["a rose is a rose is a rose"] * 9, 270) == train_bpe(["a rose is a rose is a rose"] * 9, 270)
    True
    """
    least = 256 + len(SPECIAL_TOKENS)
    if vocab_size < least:
        raise ValueError(f"a vocabulary of {vocab_size}; it must hold {least}: all bytes and the special ids")
    tokenizers = _library()
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with _one_thread():
        model.train_from_iterator(texts, trainer)
    return str(model.to_str(pretty=True)) + "\n"


@lru_cache(maxsize=4)
def _from_json(text: str, where: str) -> JsonTokenizer:
    tokenizers = _library()
    try:
        model = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception for anything it cannot read
        raise DataError(f"{where}: not a tokenizer.json of Hugging Face's tokenizers: {error}") from None
    model.encode_special_tokens = True
    model.no_truncation()
    model.no_padding()
    special = {}
    for role, names in _NAMES.items():
        found = [model.token_to_id(name) for name in names if model.token_to_id(name) is not None]
        if not found:
            raise DataError(
                f"{where}: no token that could be {role}; one of {', '.join(names)} must be in its vocabulary"
            )
        special[role] = found[0]
    return JsonTokenizer(
        model=model,
        digest=hashlib.sha256(text.encode()).hexdigest(),
        size=model.get_vocab_size(),
        **special,
    )


def _library() -> ModuleType:
    try:
        import tokenizers
    except ImportError:
        raise MissingExtra("a tokenizer other than 'bytes'", "tokenizers", "train") from None
    return tokenizers


@contextmanager
def _one_thread() -> Iterator[None]:
    """The library's threads off: training adds up counts in the order in which threads finish."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
