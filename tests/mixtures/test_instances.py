import itertools
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curate.config import from_mapping, to_mapping
from curate.schema import DECISIONS, documents_schema
from curate.shards import ShardWriter
from filters.errors import ConfigError
from mixtures.fewshot import question_key
from mixtures.instances import check_part, cut, cut_start
from mixtures.shards import read_shard
from mixtures.tasks import Documents, Task, task_files
from mixtures.tokenizer import load_tokenizer, train_bpe

BYTES = load_tokenizer("bytes")
QA = [
    {"id": "ask", "input": "Q: {{ q }}", "target": "{{ a }}"},
    {"id": "short", "input": "{{ q }}", "target": "{{ a }}"},
]
STEPS = {"id": "steps", "cot": True, "input": "{{ q }} Why?", "target": "{{ why }} So {{ a }}."}


def check(tmp_path, records, *, cot=(False,), length=64, too_long="reject", kind="raw", **settings):
    """(result, instances, decisions) of a task over JSONL records."""
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(record if isinstance(record, str) else json.dumps(record) + "\n" for record in records)
    )
    raw = {"fields": {"q": "q", "a": "a"}, "answer": "a", "templates": QA}
    rendered = {"fields": {"input": "p", "target": "c"}}
    source = {"path": str(path), **settings.pop("source", {})}
    task = from_mapping(
        Task,
        {"id": "demo", "kind": kind, "source": source, **(raw if kind == "raw" else rendered), **settings},
    )
    return run_check(tmp_path, task, cot=cot, length=length, too_long=too_long)


def run_check(tmp_path, task, *, cot=(False,), length=64, too_long="reject"):
    out = tmp_path / "out"
    out.mkdir()
    files = [
        {"path": str(f.path), "relative": f.relative, "format": f.format, "compression": f.compression}
        for f in task_files(task)
    ]
    result = check_part(
        out,
        task=json.loads(json.dumps(to_mapping(task))),
        files=files,
        cot=list(cot),
        tokenizer="bytes",
        length=length,
        between="\n",
        too_long=too_long,
    )
    decisions = pq.read_table(out / "decisions.parquet")
    assert decisions.schema.equals(DECISIONS)
    assert result["read"] == result["used"] + sum(result["rejected"].values())
    assert result["used"] + sum(result["rejected"].values()) == result["read"]
    drops = [d for d in decisions.to_pylist() if d["action"] == "drop"]
    assert len(drops) == sum(result["rejected"].values())
    return result, read_shard(out / "instances.arrow"), decisions.to_pylist()


def test_every_record_is_used_or_rejected_with_its_reason(tmp_path):
    records = [
        {"q": "one", "a": "1"},
        {"q": "two"},
        '{"q": "three", "a"\n',
        {"q": "four", "a": "  "},
        {"q": "f" * 70, "a": "5"},
        {"q": "six", "a": "6"},
    ]
    result, instances, decisions = check(tmp_path, records)
    assert instances["id"].to_pylist() == ["rows.jsonl#0", "rows.jsonl#5"]
    assert result["rejected"] == {
        "read.malformed_json": 1,
        "read.missing_field": 1,
        "render.empty_target": 1,
        "render.too_long": 1,
    }
    assert {d["id"]: d["rule"] for d in decisions} == {
        "rows.jsonl#1": "read.missing_field",
        "rows.jsonl#2": "read.malformed_json",
        "rows.jsonl#3": "render.empty_target",
        "rows.jsonl#4": "render.too_long",
    }
    assert {d["source"] for d in decisions} == {"demo"} and {d["stage"] for d in decisions} == {
        "read",
        "render",
    }
    # "Q: " + 70 + between + 1, and bos and eos
    assert [(d["value"], d["bound"], d["detail"]) for d in decisions if d["rule"] == "render.too_long"] == [
        (77.0, 64.0, "ask")
    ]


def test_empty_targets_of_a_rendered_set_are_rejected_and_counted(tmp_path):
    records = [
        {"p": "x", "c": "yes<|endoftext|>"},
        {"p": "y", "c": "<|endoftext|>"},
        {"p": "z", "c": " \n"},
        {"p": " ", "c": "no"},
    ]
    result, instances, _ = check(tmp_path, records, kind="rendered")
    assert instances["field:target"].to_pylist() == ["yes"]
    assert result["rejected"] == {"render.empty_input": 1, "render.empty_target": 2}
    assert result["edited"] == {"render.end_of_text": 1}


def test_every_row_that_loses_an_end_of_text_token_has_an_edit_and_none_keeps_one(tmp_path):
    end = "<|endoftext|>"
    records = [
        {"p": "a" + end, "c": f"yes{end}\u00a0{end}"},
        {"p": "b", "c": f"yes{end}no"},
        {"p": f"c{end}d", "c": "yes" + end},
        {"p": "d", "c": "yes"},
        {"p": "e" * 70, "c": "yes" + end},
    ]
    result, instances, decisions = check(tmp_path, records, kind="rendered")
    assert instances["field:input"].to_pylist() == ["a", "d"]
    assert instances["field:target"].to_pylist() == ["yes", "yes"]
    assert result["edited"] == {"render.end_of_text": 1}
    assert result["rejected"] == {"render.end_of_text": 2, "render.too_long": 1}
    assert [(d["id"], d["stage"], d["rule"], d["action"]) for d in decisions] == [
        ("rows.jsonl#1", "render", "render.end_of_text", "drop"),
        ("rows.jsonl#2", "render", "render.end_of_text", "drop"),
        ("rows.jsonl#0", "render", "render.end_of_text", "edit"),
        ("rows.jsonl#4", "render", "render.too_long", "drop"),
    ]


def test_nothing_empty_hides_behind_the_words_of_a_template(tmp_path):
    records = [
        {"q": "one", "a": " \u00a0", "w": "because"},
        {"q": "two", "a": "2", "w": ""},
        {"q": "", "a": "3", "w": "because"},
        {"q": "four", "a": "4", "w": "because"},
    ]
    settings = {
        "fields": {"q": "q", "a": "a", "why": "w"},
        "rationale": "why",
        "templates": [
            {"id": "t", "input": "Q: {{ q }}", "target": "The answer is {{ a }}."},
            {"id": "c", "cot": True, "input": "Q: {{ q }}", "target": "Well, {{ why }} So {{ a }}."},
        ],
    }
    (tmp_path / "plain").mkdir()
    result, instances, decisions = check(tmp_path, records, cot=(False, True), **settings)
    assert instances["field:q"].to_pylist() == ["four"]
    assert result["rejected"] == {"render.empty_input": 1, "render.empty_target": 2}
    assert [(d["rule"], d["detail"]) for d in decisions] == [
        ("render.empty_target", "the field a"),
        ("render.empty_target", "the field why"),
        ("render.empty_input", "t: the fields q"),
    ]
    # a rationale that no template shows may be empty
    assert check(tmp_path / "plain", records, **settings)[1]["field:q"].to_pylist() == ["two", "four"]


@pytest.mark.parametrize("size", range(108, 126))
def test_a_row_that_will_be_truncated_can_be_cut_between_characters(tmp_path, size):
    records = [{"q": "漢字" * 40, "a": "z" * size}]
    result, _, _ = check(tmp_path, records, length=128, too_long="truncate_input")
    # bos, one character of three bytes, between, the answer, eos
    assert result["used"] == int(1 + 3 + 1 + size + 1 <= 128)


@given(
    text=st.text(alphabet="a é漢😀\ufffd", min_size=1, max_size=40),
    room=st.integers(-2, 30),
    between=st.sampled_from(["", "\n", "漢"]),
    with_bpe=st.booleans(),
)
def test_an_input_is_cut_to_the_longest_end_that_fits(bpe, text, room, between, with_bpe):
    end = cut_start(text, between, room, bpe if with_bpe else BYTES)
    assert text.endswith(end)
    sizes = [len((text[i:] + between).encode()) for i in range(len(text))]
    if with_bpe:
        assert not end or len(bpe.encode([end + between])[0]) <= room
    else:
        assert end == next((text[i:] for i, size in enumerate(sizes) if size <= room), "")


def test_a_column_for_ids_that_no_record_has_is_a_mistake(tmp_path):
    records = [{"idd": "x", "q": "one", "a": "1"}, {"idd": "y", "q": "two", "a": "2"}]
    message = r"demo: \$\.source\.id: no record has the column 'id'; did you mean 'idd'\? Columns of the first: idd, q, a"
    with pytest.raises(ConfigError, match=message):
        check(tmp_path, records, source={"id": "id"})


def test_lengths_are_the_tokens_of_each_template(tmp_path):
    fields = {"q": "q", "a": "a", "why": "w"}
    _, instances, _ = check(
        tmp_path,
        [{"q": "abc", "a": "de", "w": "fghi"}],
        cot=(False, True),
        fields=fields,
        rationale="why",
        templates=[*QA, STEPS],
    )
    expected = [len("Q: abc\nde"), len("abc\nde"), len("abc Why?\nfghi So de.")]
    assert instances["lengths"].to_pylist() == [expected]


def test_a_row_must_fit_by_every_template_that_may_be_used(tmp_path):
    records = [{"q": "q" * 20, "a": "1", "w": "w" * 40}]
    settings = {"fields": {"q": "q", "a": "a", "why": "w"}, "rationale": "why", "templates": [*QA, STEPS]}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert check(tmp_path / "a", records, cot=(False,), **settings)[0]["used"] == 1
    assert check(tmp_path / "b", records, cot=(False, True), **settings)[0]["rejected"] == {
        "render.too_long": 1
    }


@pytest.mark.parametrize(("size", "fits"), [(54, True), (55, False)])
def test_an_example_of_exactly_the_length_of_a_row_fits(tmp_path, size, fits):
    # bos, "Q: ", the question, between, four of answer, eos: 10 + question
    result, _, _ = check(tmp_path, [{"q": "q" * size, "a": "true"}])
    assert result["used"] == int(fits)


def test_too_long_inputs_are_kept_where_they_will_be_truncated_unless_the_target_alone_is_too_long(tmp_path):
    records = [{"q": "q" * 500, "a": "yes"}, {"q": "short", "a": "a" * 70}]
    result, instances, decisions = check(tmp_path, records, too_long="truncate_input")
    assert instances["field:a"].to_pylist() == ["yes"]
    assert result["edited"] == {"render.truncate_input": 1} and result["rejected"] == {"render.too_long": 1}
    assert [(d["action"], d["rule"]) for d in decisions] == [
        ("edit", "render.truncate_input"),
        ("drop", "render.too_long"),
    ]


def test_evaluation_items_are_never_too_long(tmp_path):
    assert check(tmp_path, [{"q": "q" * 5000, "a": "yes"}], length=None)[0]["used"] == 1


def test_a_native_id_counts_once(tmp_path):
    records = [
        {"id": "x", "q": "one", "a": "1"},
        {"id": "x", "q": "two", "a": "2"},
        {"id": "y", "q": "three", "a": "3"},
    ]
    result, instances, decisions = check(tmp_path, records, source={"id": "id"})
    assert instances["field:q"].to_pylist() == ["one", "three"]
    assert result["rejected"] == {"read.repeated_id": 1}
    assert decisions[0]["detail"] == "an earlier record has this id; this one is in rows.jsonl"


def test_a_template_that_fails_on_a_row_rejects_that_row(tmp_path):
    templates = [{"id": "third", "input": "{{ q.split(' ')[2] }}", "target": "{{ a }}"}]
    result, instances, decisions = check(
        tmp_path, [{"q": "a b c", "a": "1"}, {"q": "a", "a": "2"}], templates=templates
    )
    assert instances.num_rows == 1 and result["rejected"] == {"render.template_error": 1}
    assert decisions[0]["detail"].startswith("third: ") and "Undefined" in decisions[0]["detail"]


def test_a_field_may_be_called_id_or_row(tmp_path):
    fields = {"id": "q", "row": "a"}
    templates = [{"id": "t", "input": "{{ id }}", "target": "{{ row }}"}]
    _, instances, _ = check(
        tmp_path, [{"q": "one", "a": "1"}], fields=fields, templates=templates, answer="row"
    )
    assert instances.select(["id", "field:id", "field:row"]).to_pylist() == [
        {"id": "rows.jsonl#0", "field:id": "one", "field:row": "1"}
    ]


def test_keys_are_of_the_question_not_of_the_answer(tmp_path):
    records = [{"q": "Same?", "a": "1"}, {"q": "same", "a": "2"}, {"q": "other", "a": "1"}]
    keys = check(tmp_path, records)[1]["keys"].to_pylist()
    assert keys == [[question_key("same")] * 2, [question_key("same")] * 2, [question_key("other")] * 2]


def test_a_field_that_a_template_does_not_show_does_not_make_its_questions_differ(tmp_path):
    records = [{"q": "Same?", "a": "1", "u": "http://x"}, {"q": "same", "a": "1", "u": "http://y"}]
    templates = [QA[0], {"id": "linked", "input": "{{ q }} {{ url }}", "target": "{{ a }}"}]
    fields = {"q": "q", "a": "a", "url": "u"}
    first, second = check(tmp_path, records, fields=fields, templates=templates)[1]["keys"].to_pylist()
    assert first[0] == second[0] == question_key("same")
    assert first[1] != second[1]


# -- documents -------------------------------------------------------------------------------------------------------------


def curated(directory, documents):
    """A directory as ``curate run`` leaves it, as far as mixtures read it: (id, text) in kept/ and a manifest."""
    (directory / "kept").mkdir(parents=True)
    with ShardWriter(directory / "kept/part-000000.parquet", documents_schema([])) as writer:
        rows = [{"id": id_, "source": "web", "text": text} for id_, text in documents]
        writer.write(pa.Table.from_pylist(rows, documents_schema([])))
    shards = {"kept": [{"path": "kept/part-000000.parquet", "rows": len(rows), "sha256": ""}]}
    (directory / "manifest.json").write_text(json.dumps({"format": 1, "kind": "curated", "shards": shards}))
    return directory


def test_documents_are_cut_at_line_ends_into_rows_that_join_to_the_document(tmp_path):
    lines = "".join(f"line number {i} of a page\n" for i in range(9))
    run = curated(tmp_path / "run", [("a", "short"), ("b", lines), ("c", " \n"), ("d", "x" * 200)])
    result, instances, decisions = run_check(tmp_path, Documents(str(run)).task())
    rows = list(zip(instances["id"].to_pylist(), instances["field:text"].to_pylist(), strict=True))
    assert [id_ for id_, _ in rows] == ["a@0", *(f"b@{k}" for k in range(5)), *(f"d@{k}" for k in range(4))]
    assert "".join(text for id_, text in rows if id_[0] == "b") == lines
    assert all(text.endswith("\n") for id_, text in rows if id_[0] == "b")
    assert "".join(text for id_, text in rows if id_[0] == "d") == "x" * 200
    assert instances["lengths"].to_pylist() == [[len(text)] for _, text in rows]
    assert (result["read"], result["used"], result["rows"]) == (4, 3, 10)
    assert set(instances["source"].to_pylist()) == {"web"}
    assert [(d["id"], d["rule"], d["partner_source"], d["partner_id"]) for d in decisions] == [
        ("c", "render.empty_target", "web", "c")
    ]


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    path.write_text(train_bpe(["the cat sat on the mat\n\n and\n  on  the other mats "] * 30, 290))
    return load_tokenizer(path)


texts = st.lists(st.text(alphabet=" \n\tathecsmno.é猫", max_size=120), max_size=4)


@given(texts=texts, room=st.integers(4, 20), with_bpe=st.booleans())
@example(texts=["\n\n\n\n  \n\n the cat\n\nsat" * 5], room=4, with_bpe=True)
def test_pieces_join_to_the_text_fit_the_room_and_know_their_tokens(bpe, texts, room, with_bpe):
    tokenizer = bpe if with_bpe else BYTES
    pieces = cut(texts, room, tokenizer)
    assert ["".join(piece for piece, _ in of_text) for of_text in pieces] == texts
    for of_text in pieces:
        for piece, size in of_text:
            assert piece and size == len(tokenizer.encode([piece])[0]) <= room


@given(st.lists(st.integers(1, 9), max_size=30))
def test_lines_that_fit_are_never_cut_and_no_two_pieces_would_fit_together(sizes):
    text = "".join("x" * (size - 1) + "\n" for size in sizes)
    (pieces,) = cut([text], 9, BYTES)
    assert all(piece.endswith("\n") for piece, _ in pieces)
    # a piece is only begun when the next line did not fit into the one before
    for (_, size), (after, _) in itertools.pairwise(pieces):
        assert size + len(after.split("\n")[0]) + 1 > 9


def test_a_row_too_short_for_one_character_is_an_error_of_the_config():
    with pytest.raises(ConfigError, match="one character has more than 3 tokens"):
        cut(["😀"], 3, BYTES)
