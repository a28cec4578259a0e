"""Line ends, Unicode form and mojibake: what changes, what must not, and that a second pass changes nothing."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from ftfy.badness import is_bad
from hypothesis import example, given, settings
from hypothesis import strategies as st

from filters.normalization import Normalize, _bad_line_pattern, normalize

SHARED = Path(os.environ.get("CURATE_SHARED", Path(__file__).parents[3] / "shared"))

NOTHING = Normalize(unicode=None, newlines=False)
ALL_OPTIONS = [
    Normalize(unicode=form, fix_mojibake=fix, newlines=ends)
    for form in ("NFC", "NFKC", None)
    for fix in (False, True)
    for ends in (False, True)
]

# Letters that are lead and continuation bytes of UTF-8 in the usual charsets, accents, jamo, line ends.
MOJIBAKE = "ÃÂâ€™œž¢£©®°±µ¶\x80\x9d\xa0ÐÑ¿½¾ØÙŸŠІВГРСЂћβΒ√≈‚Ä±ęß×²┬í à\x85\u2028\n\r\t aBz.,?é"
ACCENTS = "aeAIou\u0300\u0301\u0303\u0323\u0327\u0345\u1100\u1161\u11a8\u0958\u212bﬁ²①ｶﾞ\u0f71\u0f72"
TEXTS = st.one_of(
    st.text(MOJIBAKE + ACCENTS, max_size=12),
    st.text(max_size=12),
    st.text(max_size=6).map(lambda text: text.encode("utf-8").decode("latin-1")),
    st.sampled_from("éèüßñ’“”…привет日本語").map(
        lambda letter: letter.encode("utf-8").decode("cp1252", "replace")
    ),
)


def texts_and_edits(
    texts: Sequence[str | None], options: Normalize | None = None
) -> tuple[list[str], dict[int, str]]:
    column, edits = normalize(pa.array(texts, pa.large_string()), options)
    assert edits.schema == pa.schema([("row", pa.int64()), ("detail", pa.string())])
    return column.to_pylist(), dict(zip(edits["row"].to_pylist(), edits["detail"].to_pylist(), strict=True))


def test_every_line_end_becomes_lf() -> None:
    before = ["a\r\nb\rc\n", "\r", "a\r\r\nb", "no end", "a\nb\n", "\r\n", "z\r"]
    after, edits = texts_and_edits(before, Normalize(unicode=None))
    assert after == ["a\nb\nc\n", "\n", "a\n\nb", "no end", "a\nb\n", "\n", "z\n"]
    assert edits == dict.fromkeys((0, 1, 2, 5, 6), "newlines")


def test_line_ends_stay_when_newlines_is_off() -> None:
    assert texts_and_edits(["a\r\nb"], Normalize(newlines=False)) == (["a\r\nb"], {})


@pytest.mark.parametrize(
    ("text", "nfc", "nfkc"),
    [
        # Unicode Standard Annex #15, figures 3 to 6
        ("\u212b", "\u00c5", "\u00c5"),  # ANGSTROM SIGN
        ("\u2126", "\u03a9", "\u03a9"),  # OHM SIGN
        ("d\u0307\u0323", "\u1e0d\u0307", "\u1e0d\u0307"),  # the dot below is ordered first, then composed
        ("q\u0307\u0323", "q\u0323\u0307", "q\u0323\u0307"),  # ordered, nothing to compose
        ("\ufb01", "\ufb01", "fi"),
        ("2\u2075", "2\u2075", "25"),
        ("\u1e9b\u0323", "\u1e9b\u0323", "\u1e69"),
        ("\u0958", "\u0915\u093c", "\u0915\u093c"),  # DEVANAGARI QA, excluded from composition
        ("\u1112\u1161\u11ab", "\ud55c", "\ud55c"),  # Hangul jamo
        ("½", "½", "1\u20442"),  # below U+0300: no form of NFC, but of NFKC
        ("e\u0301", "é", "é"),
        ("é", "é", "é"),
        ("“plain”", "“plain”", "“plain”"),
    ],
)
def test_the_unicode_form_is_that_of_annex_15(text: str, nfc: str, nfkc: str) -> None:
    for options, expected in (
        (Normalize(unicode="NFC"), nfc),
        (Normalize(unicode="NFKC"), nfkc),
        (Normalize(unicode=None), text),
    ):
        after, edits = texts_and_edits([text], options)
        assert after == [expected]
        assert edits == ({} if text == expected else {0: str(options.unicode).lower()})


def test_no_text_of_code_points_below_0300_needs_nfc() -> None:
    """What the fast path relies on: their lead bytes end at 0xCB, and neither they nor their pairs compose."""
    low = [chr(point) for point in range(0x300)]
    assert all(max(letter.encode()) < 0xCC for letter in low)
    assert chr(0x300).encode()[0] == 0xCC
    assert all(
        unicodedata.is_normalized("NFC", first + second) for first in low[0x41:0x250:7] for second in low
    )
    assert unicodedata.is_normalized("NFC", "".join(low))


@pytest.mark.parametrize(
    ("original", "charset"),
    [
        ("don’t", "cp1252"),
        ("Schöne Grüße aus Köln", "latin-1"),
        ("naïve café, déjà vu", "cp1252"),
        ("zażółć gęślą", "cp1250"),
        ("привет, мир", "latin-1"),
        ("“quoted” — dashed…", "mac-roman"),
    ],
)
def test_utf8_that_was_read_with_another_charset_is_repaired(original: str, charset: str) -> None:
    damaged = original.encode("utf-8").decode(charset)
    after, edits = texts_and_edits([original, damaged], Normalize(fix_mojibake=True))
    assert after == [original, original]
    assert edits == {1: "mojibake"}
    assert texts_and_edits([damaged]) == ([damaged], {})  # off by default


def test_a_good_line_is_not_repaired_for_the_sake_of_a_bad_one() -> None:
    row = "302   194   C2     Â     LATIN CAPITAL LETTER A WITH CIRCUMFLEX"
    after, edits = texts_and_edits([f"{row}\ndonâ€™t", row], Normalize(fix_mojibake=True))
    assert after == [f"{row}\ndon’t", row]
    assert edits == {0: "mojibake"}


def test_mojibake_is_repaired_before_nfkc_destroys_it() -> None:
    after, edits = texts_and_edits(["donâ€™t ﬁx", "donâ€™t"], Normalize(unicode="NFKC", fix_mojibake=True))
    assert after == ["don’t fix", "don’t"]
    assert edits == {0: "mojibake,nfkc", 1: "mojibake"}


def test_composing_may_complete_a_damaged_sequence_and_the_repair_follows() -> None:
    assert texts_and_edits(["cafA\u0303©"], Normalize(fix_mojibake=True)) == (["café"], {0: "mojibake,nfc"})
    assert texts_and_edits(["cafA\u0303©"]) == (["cafÃ©"], {0: "nfc"})


def test_the_detail_names_the_steps_in_their_order() -> None:
    texts = ["donâ€™t\r\ncafe\u0301", "cafe\u0301\r", "plain"]
    assert texts_and_edits(texts, Normalize(fix_mojibake=True)) == (
        ["don’t\ncafé", "café\n", "plain"],
        {0: "newlines,mojibake,nfc", 1: "newlines,nfc"},
    )


@given(st.lists(TEXTS, max_size=6), st.sampled_from(ALL_OPTIONS))
@settings(max_examples=300, deadline=None)
def test_a_second_pass_changes_nothing_and_edits_name_the_changed_rows(
    texts: list[str], options: Normalize
) -> None:
    once, edits = texts_and_edits(texts, options)
    assert len(once) == len(texts)
    assert list(edits) == [row for row, (old, new) in enumerate(zip(texts, once, strict=True)) if old != new]
    assert texts_and_edits(once, options) == (once, {})
    for text in once:
        assert "\r" not in text or not options.newlines
        assert options.unicode is None or unicodedata.is_normalized(options.unicode, text)


@given(st.lists(TEXTS, max_size=6), st.sampled_from(ALL_OPTIONS))
@settings(max_examples=100, deadline=None)
def test_a_text_is_treated_the_same_alone_and_among_others(texts: list[str], options: Normalize) -> None:
    together, edits = texts_and_edits(texts, options)
    for row, text in enumerate(texts):
        alone, edit = texts_and_edits([text], options)
        assert alone == [together[row]]
        assert edit.get(0) == edits.get(row)


@given(TEXTS)
@example("à”д")  # bad only because the last is a letter, and not an ASCII one
@example("1\u2003À€")  # bad only because of the space
@example("1\x1cÀ€")
@example("One.\nÃ la carte")  # bad only at the beginning of a line
@settings(max_examples=500, deadline=None)
def test_the_fast_pattern_misses_no_line_that_ftfy_finds_bad(text: str) -> None:
    if any(is_bad(line) for line in text.split("\n")):
        assert pc.match_substring_regex(pa.array([text]), _bad_line_pattern()).to_pylist() == [True]


def test_the_fast_pattern_passes_over_good_text() -> None:
    good = [
        "Plain English.",
        "Größe, Maß und Öl",
        "L’été à la plage, où ça ?",
        "Съешь же ещё",
        "日本語の文章",
        "a² × b³",
    ]
    assert pc.match_substring_regex(pa.array(good), _bad_line_pattern()).to_pylist() == [False] * len(good)


@pytest.mark.parametrize("options", ALL_OPTIONS)
def test_a_column_in_which_nothing_changes_is_not_copied(options: Normalize) -> None:
    column = pa.array(["plain", "", "“quoted” café"], pa.large_string())
    after, edits = normalize(column, options)
    assert [buffer and buffer.address for buffer in after.buffers()] == [
        buffer and buffer.address for buffer in column.buffers()
    ]
    assert edits.num_rows == 0


@pytest.mark.parametrize("options", [Normalize(fix_mojibake=True), Normalize(unicode="NFKC"), NOTHING])
def test_slices_chunks_nulls_and_other_string_types_are_columns_too(options: Normalize) -> None:
    texts = ["skipped\r\n", "a\r\n", None, "", "e\u0301", "plain", "skipped e\u0301"]
    expected = texts_and_edits([text or "" for text in texts[1:-1]], options)
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        whole = pa.array(texts, kind)
        for column in (
            whole[1:-1],
            pa.chunked_array([whole[1:3], whole[3:-1]]),
            pa.chunked_array([whole[1:-1]]),
        ):
            after, edits = normalize(column, options)
            assert after.type == pa.large_string()
            assert (after.to_pylist(), dict(zip(*edits.to_pydict().values(), strict=True))) == expected


@pytest.mark.parametrize("options", ALL_OPTIONS)
def test_no_texts_give_no_texts(options: Normalize) -> None:
    for column in (pa.array([], pa.string()), pa.chunked_array([], pa.large_string()), pa.array(["", ""])):
        after, edits = normalize(column, options)
        assert after.to_pylist() == column.to_pylist()
        assert edits.num_rows == 0


def test_another_form_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="unicode is 'NFD'; allowed are 'NFC', 'NFKC' and null"):
        Normalize(unicode="NFD")  # type: ignore[arg-type]


def test_ftfy_is_loaded_only_when_asked_for() -> None:
    program = (
        "import sys, pyarrow as pa; from filters.normalization import Normalize, normalize\n"
        "column = pa.array(['caf\\u00c3\\u00a9'])\n"
        "normalize(column); assert 'ftfy' not in sys.modules\n"
        "fixed, _ = normalize(column, Normalize(fix_mojibake=True)); assert 'ftfy' in sys.modules\n"
        "assert fixed.to_pylist() == ['caf\\u00e9']"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.shared
def test_real_documents_change_only_where_plain_python_says_so() -> None:
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no shared data in {SHARED}")
    texts = pq.read_table(sorted((SHARED / "data/corpus").glob("prose-*.parquet"))[0], columns=["text"])[
        "text"
    ].to_pylist()
    with gzip.open(SHARED / "data/quality/negative.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts += [json.loads(line)["text"] for line in lines]
    after, edits = texts_and_edits(texts)
    expected = [
        unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")) for text in texts
    ]
    assert after == expected
    assert list(edits) == [
        row for row, (old, new) in enumerate(zip(texts, expected, strict=True)) if old != new
    ]
    repair = Normalize(fix_mojibake=True)
    repaired, _ = texts_and_edits(texts, repair)
    assert texts_and_edits(repaired, repair) == (repaired, {})
