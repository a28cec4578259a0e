"""Which language is a text written in: py3langid's naive Bayes model over Arrow buffers. Its only door.

The model (Lui & Baldwin 2012, "langid.py: An Off-the-shelf Language Identification Tool"; py3langid 0.4) is
an automaton over UTF-8 bytes that recognises 100,053 byte n-grams, and for each of them a log-likelihood
under each of 142 classes:

    bytes ──automaton──▶ how often each n-gram occurs ──▶ prior + sum of log(1 + count) x row of the n-gram
                                                          ──softmax, temperature sqrt(bytes)──▶ probability

py3langid walks the automaton in a Python loop; the kernel here does the same arithmetic in Numba on the
model's own tables.

Excerpt: a text of more than 1,500 bytes is judged by three windows of 500 bytes, its start, middle and end,
cut between characters: the first lines and the licence of a page are often English where the page is not. Short
sentences are the hard case, and close relatives are confused: hr and sr, id and ms, nn and no.

Price: see tests/benchmarks/kernels.py; the model is loaded once for each process.
"""

from __future__ import annotations

import functools
import importlib.metadata
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.column import Bytes, Offsets, Texts, as_large_string, string_buffers
from filters.compiling import njit
from filters.errors import RunError
from filters.normalization import Normalize, normalize

UNDETERMINED = "und"  # ISO 639-2's own code for it
WINDOW_BYTES = 500
WINDOWS = 3
LANGUAGE_SCHEMA = pa.schema([("language", pa.string()), ("language_score", pa.float64())])

# The model tells these apart; a policy that keeps "zh" means them all. Each belongs to a macrolanguage that
# has a two-letter code (ISO 639-3, table of macrolanguages); kik is ki itself. nn keeps its own two-letter
# code, as do bs, hr and sr. Languages without a two-letter code keep that of ISO 639-3 (kab, vec).
MACROLANGUAGES = {
    "ary": "ar",  # Moroccan Arabic
    "arz": "ar",  # Egyptian Arabic
    "fuv": "ff",  # Nigerian Fulfulde
    "gug": "gn",  # Paraguayan Guaraní
    "kik": "ki",
    "sdh": "ku",  # Southern Kurdish
    "uzs": "uz",  # Southern Uzbek
    "wuu": "zh",  # Wu Chinese
    "yue": "zh",  # Cantonese
}


def detect_language(texts: Texts) -> pa.Table:
    """The most probable language of each text, and how probable it is.

    Deterministic, and the same for a text whatever stands beside it.

    Args:
        texts: strings of any Arrow string type; a null is an empty text.

    Returns:
        One row for each text. ``language string``: the ISO 639-1 code where the language, or the
        macrolanguage that it belongs to, has one, else the ISO 639-3 code. ``language_score float64``: the
        probability that the model gives it, in [0, 1]. Two more values of ``language``: "und", with score 0,
        where there is nothing to judge (no letter, or no n-gram that the model knows); "zxx", which the model
        itself gives to what is no language (tables, code), with its probability.

    Scores are low where a text is short: one sentence of Tatoeba in ten is under 0.5.

    >>> detect_language(pa.array(["Der Hund schläft unter dem Tisch.", "1234"]))["language"].to_pylist()
    ['de', 'und']
    """
    model = _model()
    column = _as_model_reads(as_large_string(texts))
    offsets, data = string_buffers(column)
    languages, scores = np.empty(len(column), np.int32), np.empty(len(column), np.float64)
    _score(
        offsets, data, model.next_state, model.row_of_state, model.ngram_of_state, model.weights, model.prior,
        model.language_of_class, len(model.languages), languages, scores,
    )  # fmt: skip
    silent = ~pc.match_substring_regex(column, r"\pL").to_numpy(zero_copy_only=False)
    languages[silent], scores[silent] = -1, 0.0
    names = pa.array([*model.languages, UNDETERMINED])  # -1 is the last
    found = names.take(pa.array(np.where(languages < 0, len(model.languages), languages)))
    return pa.table({"language": found, "language_score": scores}, schema=LANGUAGE_SCHEMA)


def known_languages() -> tuple[str, ...]:
    """Every code that ``detect_language`` can give, sorted: what a policy may keep.

    >>> {"en", "zh", "zxx", "und"} <= set(known_languages()), "yue" in known_languages()
    (True, False)
    """
    return tuple(sorted({*_model().languages, UNDETERMINED}))


@dataclass(frozen=True, slots=True)
class _Model:
    """Automaton and naive Bayes tables: 104,583 states, 100,053 n-grams and 142 classes in py3langid 0.4."""

    next_state: npt.NDArray[np.uint32]  # (distinct rows * 256,)
    row_of_state: npt.NDArray[np.uint32]  # (states,) where the row of a state begins in next_state
    ngram_of_state: npt.NDArray[np.int32]  # (states,) the n-gram that ends in this state, or -1
    weights: npt.NDArray[np.float32]  # (n-grams, classes) log-likelihoods
    prior: npt.NDArray[np.float32]  # (classes,)
    language_of_class: npt.NDArray[np.int32]  # (classes,) several classes may be one language
    languages: tuple[str, ...]


@functools.cache
def _model() -> _Model:
    """py3langid's packaged model, read once for each process; no network."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    try:
        packaged = LanguageIdentifier.from_model_file(MODEL_FILE)
        codes = [MACROLANGUAGES.get(code, code) for code in packaged.nb_classes]
        languages = tuple(dict.fromkeys(codes))
        return _Model(
            next_state=np.asarray(packaged.tk_nextmove, np.uint32),
            row_of_state=np.asarray(packaged.tk_row, np.uint32) << np.uint32(8),
            ngram_of_state=np.asarray(packaged.tk_output, np.int32),
            weights=np.asarray(packaged.nb_ptc, np.float32),
            prior=np.asarray(packaged.nb_pc, np.float32),
            language_of_class=np.array([languages.index(code) for code in codes], np.int32),
            languages=languages,
        )
    except (AttributeError, TypeError, ValueError) as fault:
        version = importlib.metadata.version("py3langid")
        raise RunError(
            f"py3langid {version}: its language model has another layout ({fault}); allowed is that of 0.4. "
            "Install it: pip install 'py3langid>=0.4,<0.5'"
        ) from fault


def _as_model_reads(column: pa.LargeStringArray) -> pa.LargeStringArray:
    """Text in NFC, and a text all in capitals in small letters, as py3langid prepares it."""
    shouted = pc.fill_null(pc.utf8_is_upper(column), False)
    if pc.any(shouted).as_py():
        column = pc.replace_with_mask(column, shouted, pc.utf8_lower(column.filter(shouted)))
    column, _ = normalize(column, Normalize(unicode="NFC", newlines=False))
    return column


@njit(nogil=True, cache=True, boundscheck=False)
def _score(
    offsets: Offsets,  # (texts + 1,) int64
    data: Bytes,
    next_state: npt.NDArray[np.uint32],
    row_of_state: npt.NDArray[np.uint32],
    ngram_of_state: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float32],  # (n-grams, classes)
    prior: npt.NDArray[np.float32],
    language_of_class: npt.NDArray[np.int32],
    n_languages: int,
    languages: npt.NDArray[np.int32],  # out, (texts,): index of the language, -1 where no n-gram is known
    scores: npt.NDArray[np.float64],  # out, (texts,)
) -> None:
    """Most probable language of each text and its probability."""
    n_classes = prior.size
    counts = np.zeros(weights.shape[0], np.int32)
    seen = np.empty(weights.shape[0], np.int32)  # n-grams of this text in order of first occurrence
    logits = np.empty(n_classes, np.float32)
    shares = np.empty(n_languages, np.float64)
    for text in range(languages.size):
        begin, end = offsets[text], offsets[text + 1]
        n_windows = WINDOWS if end - begin > WINDOWS * WINDOW_BYTES else 1
        n_seen, n_bytes = 0, 0
        for window in range(n_windows):
            first, last = begin, end
            if n_windows > 1:
                first = begin + (end - begin - WINDOW_BYTES) * window // (WINDOWS - 1)
                last = first + WINDOW_BYTES
                while (
                    first < last and data[first] & 0xC0 == 0x80
                ):  # a continuation byte: not where a character begins
                    first += 1
                while last < end and data[last] & 0xC0 == 0x80:
                    last += 1
            n_bytes += last - first
            state = np.uint32(0)
            for at in range(first, last):
                state = next_state[row_of_state[state] + np.uint32(data[at])]
                ngram = ngram_of_state[state]
                if ngram >= 0:
                    if counts[ngram] == 0:
                        seen[n_seen] = ngram
                        n_seen += 1
                    counts[ngram] += 1
        if n_seen == 0:
            languages[text], scores[text] = -1, 0.0
            continue
        logits[:] = prior
        for place in range(n_seen):
            ngram = seen[place]
            weight = np.float32(math.log1p(counts[ngram]))
            counts[ngram] = 0
            for label in range(n_classes):
                logits[label] += weight * weights[ngram, label]
        top, cooling = logits.max(), 1.0 / math.sqrt(n_bytes)
        shares[:] = 0.0
        for label in range(n_classes):
            shares[language_of_class[label]] += math.exp((logits[label] - top) * cooling)
        languages[text] = shares.argmax()
        scores[text] = shares.max() / shares.sum()
