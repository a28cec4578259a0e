import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.errors import DataError
from mixtures.tokenizer import load_tokenizer, train_bpe

TEXTS = [
    "The cat sat on the mat, and the other cat sat on the other mat.",
    "Das ist ein Satz mit Umlauten: äöüß.\n\nUnd noch einer.",
    "def f(x):\n    return x + 1\n",
] * 20
plain_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@pytest.fixture(scope="module")
def bpe_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(train_bpe(TEXTS, 320))
    return path


@pytest.fixture(scope="module", params=["bytes", "bpe"])
def tokenizer(request, bpe_file):
    return load_tokenizer("bytes" if request.param == "bytes" else bpe_file)


def test_two_trainings_on_the_same_texts_give_the_same_bytes(monkeypatch):
    first = train_bpe(iter(TEXTS), 320)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    assert train_bpe(TEXTS, 320) == first


def test_the_special_ids_are_0_1_2(tokenizer):
    assert (tokenizer.pad, tokenizer.bos, tokenizer.eos) == (0, 1, 2)


def test_the_byte_tokenizer_is_byte_plus_three():
    assert load_tokenizer("bytes").encode(["A\n", ""]) == [[68, 13], []]
    assert load_tokenizer("bytes").size == 259


@given(texts=st.lists(plain_text, max_size=5))
def test_text_comes_back_unchanged_and_every_id_is_in_range(tokenizer, texts):
    encoded = tokenizer.encode(texts)
    assert [tokenizer.decode(ids) for ids in encoded] == texts
    assert all(3 <= i < tokenizer.size for ids in encoded for i in ids)


@given(text=plain_text)
def test_no_text_has_more_tokens_than_bytes(tokenizer, text):
    assert len(tokenizer.encode([text])[0]) <= len(text.encode())


def test_special_tokens_written_in_a_text_stay_text(tokenizer):
    text = "<bos>a<eos> and <pad>"
    ids = tokenizer.encode([text])[0]
    assert not {0, 1, 2} & set(ids)
    assert tokenizer.decode(ids) == text


def test_bpe_needs_fewer_tokens_than_bytes_on_what_it_was_trained_on(bpe_file):
    tokenizer = load_tokenizer(bpe_file)
    assert tokenizer.size == 320
    assert len(tokenizer.encode([TEXTS[0]])[0]) < len(TEXTS[0]) * 0.6


def test_a_directory_gives_its_tokenizer_and_a_mixture_without_one_gives_bytes(bpe_file, tmp_path):
    assert load_tokenizer(bpe_file.parent) == load_tokenizer(bpe_file)
    (tmp_path / "plan.json").write_text("{}")
    assert load_tokenizer(tmp_path) == load_tokenizer("bytes")


def test_a_tokenizer_with_other_names_for_its_special_tokens_is_understood(bpe_file, tmp_path):
    renamed = bpe_file.read_text().replace("<pad>", "[PAD]").replace("<bos>", "<s>").replace("<eos>", "</s>")
    (tmp_path / "t.json").write_text(renamed)
    tokenizer = load_tokenizer(tmp_path / "t.json")
    assert (tokenizer.pad, tokenizer.bos, tokenizer.eos) == (0, 1, 2)


def test_what_is_no_tokenizer_is_refused_by_name(tmp_path, bpe_file):
    with pytest.raises(DataError, match=r"no file .*missing\.json; allowed are 'bytes'"):
        load_tokenizer(tmp_path / "missing.json")
    (tmp_path / "t.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match=r"t\.json: not a tokenizer\.json"):
        load_tokenizer(tmp_path / "t.json")
    (tmp_path / "t.json").write_text(bpe_file.read_text().replace("<eos>", "<stop>"))
    with pytest.raises(DataError, match="no token that could be eos"):
        load_tokenizer(tmp_path / "t.json")


def test_a_vocabulary_without_room_for_all_bytes_is_refused():
    with pytest.raises(ValueError, match="it must hold 259"):
        train_bpe(TEXTS, 200)
