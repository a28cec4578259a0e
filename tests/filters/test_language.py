"""The kernel against py3langid's own arithmetic, the excerpt, and the texts that are in no language."""

from __future__ import annotations

import gzip
import json
import math
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py3langid.langid import MODEL_FILE, LanguageIdentifier, visit_counts

import filters.language
from filters.errors import RunError
from filters.language import detect_language, known_languages

SHARED = Path(os.environ.get("CURATE_SHARED", Path(__file__).parents[3] / "shared"))

# Article 1 of the Universal Declaration of Human Rights.
ARTICLE_1 = {
    "en": "All human beings are born free and equal in dignity and rights.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
    "cs": "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv.",
    "fi": "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan.",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "ar": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "zh": "人人生而自由,在尊严和权利上一律平等。",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
}
NO_LANGUAGE = [
    "",
    " \n\t",
    "12,345.67",
    "--- *** ---",
    "½ € → ✓ 😀",
    "\u0300",
    "ok",
]  # "ok": no n-gram is known
TEXTS = st.one_of(
    st.sampled_from([*ARTICLE_1.values(), *NO_LANGUAGE]),
    st.text(max_size=40),
    st.text("abcdefghij éüßñ", max_size=60),
    st.sampled_from(list(ARTICLE_1.values())).map(lambda text: text * 40),
)


@pytest.fixture(scope="module")
def packaged() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def detected(texts: Sequence[str | None]) -> list[tuple[str, float]]:
    table = detect_language(pa.array(texts, pa.string()))
    assert table.schema == pa.schema([("language", pa.string()), ("language_score", pa.float64())])
    return list(zip(table["language"].to_pylist(), table["language_score"].to_pylist(), strict=True))


def windows(text: bytes) -> list[bytes]:
    """The whole of up to 1,500 bytes, else its first, middle and last 500, moved forward to where characters begin."""
    if len(text) <= 1500:
        return [text]
    starts = [0, (len(text) - 500) // 2, len(text) - 500]
    begins = [at for at in range(len(text) + 1) if at == len(text) or text[at] & 0xC0 != 0x80]
    forward = [min(at for at in begins if at >= start) for start in starts]
    ends = [min(at for at in begins if at >= start + 500) for start in starts]
    return [text[begin:end] for begin, end in zip(forward, ends, strict=True)]


def by_py3langid(model: LanguageIdentifier, text: str) -> dict[str, float]:
    """Probability of each of our codes, with the methods that py3langid itself classifies with."""
    pieces = windows(model._encode(text))
    visits: Counter[int] = Counter()
    for piece in pieces:
        visits.update(visit_counts(model.tk_nextmove, model._rowbase, model.tk_output, piece) or {})
    scores = model._sparse_score(visits, model.nb_ptc).astype(np.float64) / math.sqrt(sum(map(len, pieces)))
    shares = np.exp(scores - scores.max())
    fold = {
        "yue": "zh",
        "wuu": "zh",
        "ary": "ar",
        "arz": "ar",
        "uzs": "uz",
        "sdh": "ku",
        "gug": "gn",
        "fuv": "ff",
        "kik": "ki",
    }
    found: dict[str, float] = defaultdict(float)
    for code, share in zip(model.nb_classes, shares / shares.sum(), strict=True):
        found[fold.get(code, code)] += float(share)
    return found


def test_each_sentence_is_in_its_language() -> None:
    assert [language for language, _ in detected(list(ARTICLE_1.values()))] == list(ARTICLE_1)


@pytest.mark.parametrize(
    "text",
    [
        *ARTICLE_1.values(),
        "okay",
        ARTICLE_1["de"].upper(),  # capitals are read as small letters
        "e\u0301te\u0301 a\u0300 la plage",  # decomposed
        ARTICLE_1["ru"] * 3,
        "人人生而自由喺尊嚴同權利上一律平等佢哋",
    ],
)
def test_language_and_score_are_those_of_py3langid(text: str, packaged: LanguageIdentifier) -> None:
    probabilities = by_py3langid(packaged, text)
    language, score = detected([text])[0]
    assert language == max(probabilities, key=lambda code: probabilities[code])
    assert score == pytest.approx(
        probabilities[language], abs=2e-4
    )  # py3langid adds in another order, in float32
    if len(windows(text.encode())) == 1 and language not in (
        "zh",
        "ar",
        "uz",
        "ku",
        "ff",
    ):  # nothing was folded
        assert (language, score) == (
            packaged.classify(text)[0],
            pytest.approx(packaged.classify(text)[1], abs=2e-4),
        )


@pytest.mark.parametrize("n_bytes", [1499, 1500, 1501, 1502, 1503, 4001, 20_000])
@pytest.mark.parametrize("language", ["en", "ru", "ja", "hi"])
def test_a_long_text_is_judged_by_three_windows_of_500_bytes(
    language: str, n_bytes: int, packaged: LanguageIdentifier
) -> None:
    other = ARTICLE_1["pl"] if language == "en" else ARTICLE_1["en"]
    text = (ARTICLE_1[language] * 3 + " " + other + " ") * 200
    text = text.encode()[:n_bytes].decode(errors="ignore")
    probabilities = by_py3langid(packaged, text)
    found, score = detected([text])[0]
    assert found == max(probabilities, key=lambda code: probabilities[code])
    assert score == pytest.approx(probabilities[found], abs=2e-4)


def test_an_english_heading_does_not_make_a_german_document_english() -> None:
    heading, body = ARTICLE_1["en"] * 8, ARTICLE_1["de"] * 60
    assert len(heading.encode()) > 500
    (alone, alone_score), (together, score) = detected([heading, heading + body])
    assert (alone, together) == ("en", "de")
    assert alone_score > 0.95
    assert score > 0.9


def test_text_without_letters_or_known_patterns_is_undetermined() -> None:
    assert detected([*NO_LANGUAGE, None]) == [("und", 0.0)] * (len(NO_LANGUAGE) + 1)
    assert detected(["1234 " * 1000 + "-", "- " * 800 + "z" + " -" * 800])[0] == ("und", 0.0)


def test_cantonese_and_wu_are_chinese_and_egyptian_is_arabic() -> None:
    codes = known_languages()
    assert {"zh", "ar", "ku", "uz", "nn", "no", "hr", "sr", "bs", "und", "zxx"} <= set(codes)
    assert not {"yue", "wuu", "cmn", "ary", "arz", "sdh", "uzs", "kik"} & set(codes)
    assert list(codes) == sorted(set(codes))
    assert {len(code) for code in codes} == {2, 3}
    assert detected(["我哋今日去咗街市買餸,佢話嗰啲生果好平。"])[0][0] == "zh"


@given(st.lists(TEXTS, min_size=1, max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_a_text_is_judged_the_same_alone_and_among_others(texts: list[str], random: object) -> None:
    together = detected(list(texts))
    assert together == [detected([text])[0] for text in texts]
    assert all(0.0 <= score <= 1.0 and language in known_languages() for language, score in together)
    assert all((language == "und") == (score == 0.0) for language, score in together)
    assert detected(texts[::-1]) == together[::-1]


def test_slices_chunks_and_other_string_types_are_columns_too() -> None:
    texts = ["skipped", ARTICLE_1["fr"], None, "", ARTICLE_1["ja"], ARTICLE_1["de"].upper(), "skipped"]
    expected = detected(texts[1:-1])
    assert [language for language, _ in expected] == ["fr", "und", "und", "ja", "de"]
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        whole = pa.array(texts, kind)
        for column in (whole[1:-1], pa.chunked_array([whole[1:3], whole[3:-1]])):
            assert [tuple(row.values()) for row in detect_language(column).to_pylist()] == expected
    assert detect_language(pa.array([], pa.string())).num_rows == 0


def test_loading_and_judging_print_and_warn_nothing() -> None:
    program = "import pyarrow as pa; from filters import detect_language; print(detect_language(pa.array(['Guten Morgen'])))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert '[["de"]]' in done.stdout
    assert done.stderr == ""


def test_a_model_of_another_layout_is_refused_with_the_version_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = SimpleNamespace(nb_classes=["en"], tk_nextmove=[0])  # before 0.4 there was no tk_row
    monkeypatch.setattr(LanguageIdentifier, "from_model_file", lambda path: old)
    with pytest.raises(RunError) as caught:
        filters.language._model.__wrapped__()
    message = str(caught.value)
    assert message.startswith("py3langid 0.")
    assert "has no attribute 'tk_row'" in message
    assert message.endswith("Install it: pip install 'py3langid>=0.4,<0.5'")


@pytest.mark.shared
def test_real_documents_and_sentences_are_in_the_language_that_they_declare() -> None:
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no shared data in {SHARED}")
    pages = pl.concat(
        [
            pl.read_ndjson(path, infer_schema_length=None).select("text", "lang")
            for path in sorted((SHARED / "data/corpus").glob("manpages-0[12]*"))
        ]
    ).with_columns(pl.col("lang").str.slice(0, 2))
    right = pl.Series(detect_language(pages["text"].to_arrow())["language"]) == pages["lang"]
    assert len(pages) > 2000
    assert right.to_numpy().mean() > 0.99  # measured: 0.995
    with gzip.open(SHARED / "data/lang/tatoeba.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for code, ours, least in (
        ("deu", "de", 0.97),
        ("rus", "ru", 0.93),
        ("cmn", "zh", 0.98),
        ("yue", "zh", 0.98),
        ("hin", "hi", 0.93),
    ):
        found = [language for language, _ in detected([row["text"] for row in rows if row["lang"] == code])]
        assert found.count(ours) / len(found) > least, code
