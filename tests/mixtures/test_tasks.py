import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.config import from_mapping
from filters.errors import ConfigError, DataError
from mixtures.tasks import Documents, Task, column_names, load_task, load_tasks, read_rows, task_files

ROOT = Path(__file__).parents[2]


def task_of(path, fields, **settings):
    source = {"path": str(path), **settings.pop("source", {})}
    templates = [{"id": "t", "input": " ".join(f"{{{{ {name} }}}}" for name in fields), "target": "x"}]
    if settings.get("kind", "raw") == "raw":
        settings.setdefault("templates", templates)
    return from_mapping(Task, {"id": "demo", "source": source, "fields": fields, **settings})


def read(task):
    """All rows as (list of dicts, rejected, records read)."""
    good, rejected, n_read = [], [], 0
    for file in task_files(task):
        for rows in read_rows(task, file):
            good += rows.table.to_pylist()
            rejected += rows.rejected
            n_read += rows.read
    assert n_read == len(good) + len(rejected)
    return good, rejected


def write_jsonl(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_gsm8k_is_split_into_reasoning_and_answer_and_loses_its_calculator_marks():
    task = load_task(ROOT / "configs/tasks/gsm8k.yaml")
    path = ROOT / "tests/data/tasks/gsm8k.jsonl.gz"
    raw = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    good, rejected = [], []
    for rows in read_rows(task, task_files(task)[0]):
        good += rows.table.to_pylist()
        rejected += rows.rejected
    assert (len(good), rejected) == (1000, [])
    for record, row in zip(raw, good, strict=True):
        rationale, answer = record["answer"].split("\n#### ")
        assert row["id"] == record["id"]
        assert row["field:answer"] == answer
        assert "<<" not in row["field:rationale"] and ">>" not in row["field:rationale"]
        # taking the marks away leaves the rest as it is: both have the same characters outside of << >>
        kept = "".join(piece.split(">>")[-1] for piece in rationale.split("<<"))
        assert row["field:rationale"] == kept.strip()


def test_a_record_without_the_marker_is_rejected_and_the_last_marker_counts(tmp_path):
    path = write_jsonl(
        tmp_path / "a.jsonl",
        {"q": "one", "a": "first #### second #### 3 "},
        {"q": "two", "a": "no marker"},
        {"q": "three", "a": None},
        {"q": "four"},
    )
    task = task_of(
        path, {"q": "q", "why": {"column": "a", "before": "####"}, "a": {"column": "a", "after": "####"}}
    )
    good, rejected = read(task)
    assert [(row["field:why"], row["field:a"]) for row in good] == [("first #### second", "3")]
    assert [(id_, reason) for id_, reason, _ in rejected] == [
        (f"a.jsonl#{i}", "missing_field") for i in (1, 2, 3)
    ]
    assert rejected[0][2] == "nothing usable for the field why: a"


def test_markers_and_ids_may_hold_any_character(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", {"a": "x.*(é)\\\nz.*(é)\\ y", "id": "ü#1"})
    task = task_of(path, {"a": {"column": "a", "after": ".*(é)\\"}}, source={"id": "id"})
    good, _ = read(task)
    assert [(row["id"], row["field:a"]) for row in good] == [("ü#1", "y")]


def test_a_record_without_its_native_id_gets_its_place_as_id(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", {"id": "n1", "a": "x"}, {"a": "y"}, {"id": 7, "a": "z"})
    good, _ = read(task_of(path, {"a": "a"}, source={"id": "id"}))
    assert [row["id"] for row in good] == ["n1", "a.jsonl#1", "7"]


def test_numbers_lists_and_nested_fields_become_text_and_lists(tmp_path):
    records = [
        {"n": 5, "c": ["a", "b"], "d": {"e": "deep"}},
        {"n": 6, "c": "no list", "d": {"e": "x"}},
        {"n": 7, "c": [1], "d": {}},
    ]
    path = write_jsonl(tmp_path / "a.jsonl", *records)
    good, rejected = read(task_of(path, {"n": "n", "c": {"column": "c", "list": True}, "e": "d.e"}))
    assert [(row["field:n"], row["field:c"], row["field:e"]) for row in good] == [("5", ["a", "b"], "deep")]
    assert [id_ for id_, _, _ in rejected] == ["a.jsonl#1", "a.jsonl#2"]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_tables_with_a_header_are_read_by_their_suffix(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"q": ["one", "two"], "n": [1, 2]}), path)
    else:
        mark = "," if suffix == "csv" else "\t"
        path.write_text(f"q{mark}n\none{mark}1\ntwo{mark}2\n")
    good, rejected = read(task_of(path, {"q": "q", "n": "n"}))
    assert [(row["field:q"], row["field:n"]) for row in good] == [("one", "1"), ("two", "2")]
    assert rejected == []


def test_headless_tsv_keeps_quotation_marks_and_unescapes_line_ends(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b'"Quoted" start\\nof two\tyes\nplain\tno\r\nlast without end\tmaybe')
    source = {"columns": ["q", "a"], "unescape": True}
    good, rejected = read(task_of(path, {"q": "q", "a": "a"}, source=source))
    assert [(row["id"], row["field:q"], row["field:a"]) for row in good] == [
        ("a.tsv#0", '"Quoted" start\nof two', "yes"),
        ("a.tsv#1", "plain", "no"),
        ("a.tsv#2", "last without end", "maybe"),
    ]
    assert rejected == []


def test_headless_tsv_rejects_ragged_lines_and_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"one\tyes\ntoo\tmany\tfields\n\nbad \xff\tyes\ntwo\tno\n")
    good, rejected = read(task_of(path, {"q": "q", "a": "a"}, source={"columns": ["q", "a"]}))
    assert [row["field:q"] for row in good] == ["one", "two"]
    assert [(id_, reason) for id_, reason, _ in rejected] == [
        ("a.tsv#1", "ragged_row"),
        ("a.tsv#2", "ragged_row"),
        ("a.tsv#3", "invalid_utf8"),
    ]


def test_a_truncated_headless_file_keeps_the_lines_before_the_break(tmp_path):
    lines = b"".join(f"question {i} {'xyz' * (i % 7)}\tanswer {i * 7919}\n".encode() for i in range(5000))
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(lines)[:-2000])
    good, rejected = read(task_of(path, {"q": "q", "a": "a"}, source={"columns": ["q", "a"]}))
    assert 1000 < len(good) < 5000
    assert [row["field:a"] for row in good] == [f"answer {i * 7919}" for i in range(len(good))]
    assert [(id_, reason) for id_, reason, _ in rejected] == [(f"a.tsv.gz#{len(good)}", "broken_stream")]


def test_the_flan_chain_of_thought_files_are_read_whole():
    task = load_task(ROOT / "configs/tasks/aqua.yaml")
    path = ROOT / "tests/data/tasks/aqua_cot.tsv.gz"
    raw = [line.split("\t") for line in gzip.decompress(path.read_bytes()).decode().split("\n") if line]
    rows = [row for rows in read_rows(task, task_files(task)[0]) for row in rows.table.to_pylist()]
    assert [[row[f"field:{f}"] for f in ("question", "answer", "rationale")] for row in rows] == [
        [value.replace("\\n", "\n") for value in line] for line in raw
    ]


def test_rendered_targets_lose_a_literal_end_of_text_token_and_nothing_else(tmp_path):
    end = "<|endoftext|>"
    targets = ["yes" + end, "no", f"two{end}{end} \n", f"in{end}side" + end, end, ""]
    path = write_jsonl(tmp_path / "a.jsonl", *({"p": f"prompt {i} ", "c": t} for i, t in enumerate(targets)))
    task = task_of(path, {"input": "p", "target": "c"}, kind="rendered")
    (rows,) = read_rows(task, task_files(task)[0])
    assert rows.table["field:target"].to_pylist() == ["yes", "no", "two", f"in{end}side", "", ""]
    assert rows.table["field:input"].to_pylist() == [f"prompt {i} " for i in range(6)]
    assert rows.table["edited"].to_pylist() == [True, False, True, True, True, False]


def test_end_of_text_tokens_go_from_inputs_and_targets_whatever_white_space_stands_around_them(tmp_path):
    end = "<|endoftext|>"
    spaces = [chr(i) for i in range(0x3100) if chr(i).isspace()]
    assert len(spaces) == 29
    records = [{"p": f"p {s}{end}{s}{s}{end}{s}", "c": f"c {s}x{s}{end}{end}{s}"} for s in spaces]
    path = write_jsonl(tmp_path / "a.jsonl", *records, {"p": " p \u00a0", "c": " c \u2003"})
    task = task_of(path, {"input": "p", "target": "c"}, kind="rendered")
    (rows,) = read_rows(task, task_files(task)[0])
    assert rows.table["field:input"].to_pylist() == ["p"] * 29 + [" p \u00a0"]
    assert rows.table["field:target"].to_pylist() == [f"c {s}x" for s in spaces] + [" c \u2003"]
    assert rows.table["edited"].to_pylist() == [True] * 29 + [False]


def test_every_rendered_set_of_the_demo_is_free_of_end_of_text_tokens():
    for path in sorted((ROOT / "configs/tasks").glob("t0_*.yaml")):
        task = load_task(path)
        for rows in read_rows(task, task_files(task)[0]):
            targets = rows.table["field:target"].to_pylist()
            assert rows.table["edited"].to_pylist() == [True] * len(targets) != []
            assert not any("<|endoftext|>" in target for target in targets)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"id": "a b"}, r"id: found 'a b'; allowed are letters, digits and underscores"),
        ({"answer": "anser"}, r"answer: no field 'anser'; did you mean 'answer'\?"),
        ({"templates": []}, r"at least one that answers without a rationale"),
        (
            {"templates": [{"id": "t", "input": "{{ qestion }}", "target": "x"}]},
            r"'t' uses 'qestion', which is no field; did you mean 'question'\? Fields: question, answer",
        ),
        (
            {
                "templates": [
                    {"id": "t", "input": "a", "target": "x"},
                    {"id": "t", "input": "b", "target": "x"},
                ]
            },
            r"ids must differ; found t, t",
        ),
        (
            {
                "templates": [
                    {"id": "t", "input": "a", "target": "x"},
                    {"id": "c", "cot": True, "input": "a", "target": "x"},
                ]
            },
            r"'c' has cot: true but does not use the rationale field",
        ),
        ({"templates": [{"id": "t", "input": "{{ a", "target": "x"}]}, r"templates\[0\]: input: line 1"),
        ({"kind": "rendered"}, r"rendered needs the fields input and target and no templates"),
        ({"fields": {"question": {"column": "q", "remove": "("}}}, r"remove: not an RE2 pattern"),
        ({"fields": {"question": {"column": "q", "list": True, "after": "x"}}}, r"allowed with list: none"),
        ({"source": {"path": "x.tsv", "unescape": True}}, r"unescape: only for TSV files without a header"),
        ({"licenec": "MIT"}, r"licenec: no such setting; did you mean 'licence'\?"),
    ],
)
def test_a_mistake_in_a_task_is_named_with_its_place(settings, message):
    good = {
        "id": "demo",
        "source": {"path": "x.jsonl"},
        "fields": {"question": "q", "answer": "a"},
        "templates": [{"id": "t", "input": "{{ question }}", "target": "{{ answer }}"}],
    }
    assert from_mapping(Task, good).dataset == "demo"
    with pytest.raises(ConfigError, match=message):
        from_mapping(Task, {**good, **settings})


def test_templates_may_be_a_file_beside_the_task(tmp_path):
    (tmp_path / "t.yaml").write_text(
        "id: demo\nsource: {path: x.jsonl}\nfields: {q: q}\ntemplates: own/list.yaml\n"
    )
    (tmp_path / "own").mkdir()
    (tmp_path / "own/list.yaml").write_text('templates: [{id: ask, input: "{{ q }}", target: "x"}]\n')
    assert [template.id for template in load_task(tmp_path / "t.yaml").templates_for(cot=False)] == ["ask"]
    (tmp_path / "own/list.yaml").write_text('templates: [{id: ask, input: "{{ p }}", target: "x"}]\n')
    with pytest.raises(ConfigError, match=r"t\.yaml: \$: templates: 'ask' uses 'p'"):
        load_task(tmp_path / "t.yaml")


def test_one_id_in_two_files_and_a_pattern_without_files_are_both_reported(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(
            "id: demo\nkind: rendered\nsource: {path: x}\nfields: {input: i, target: t}\n"
        )
    with pytest.raises(ConfigError) as caught:
        load_tasks(
            [str(tmp_path / "*.yaml"), str(tmp_path / "none*.yaml"), Documents("runs/x"), Documents("runs/y")]
        )
    assert len(caught.value.faults) == 3
    assert "b.yaml: the task id 'demo' is taken by" in caught.value.faults[0]
    assert "matches no file" in caught.value.faults[1]
    assert "the task id 'documents' is taken by documents: runs/x" in caught.value.faults[2]


def test_a_documents_task_needs_a_finished_curated_run(tmp_path):
    with pytest.raises(ConfigError, match=r"no manifest\.json"):
        task_files(Documents(str(tmp_path)).task())


def test_a_path_that_matches_nothing_names_the_task(tmp_path):
    with pytest.raises(ConfigError, match=r"demo: \$\.source\.path: .*matches no file"):
        task_files(task_of(tmp_path / "missing.jsonl", {"q": "q"}))


def test_questions_are_the_fields_of_the_input_that_are_neither_answer_nor_rationale():
    def questions(task):
        return {template.id: task.question_fields(template) for template in task.templates_for(cot=False)}

    assert set(questions(load_task(ROOT / "configs/tasks/gsm8k.yaml")).values()) == {("question",)}
    assert questions(load_task(ROOT / "configs/tasks/t0_quartz.yaml")) == {"identity": ("input",)}
    assert questions(load_task(ROOT / "configs/tasks/tatoeba.yaml")) == {
        "in_english": ("sentence", "lang"),
        "translation_label": ("sentence",),
    }
    templates = [
        {"id": "hint", "input": "{{ a }}? {{ q }}", "target": "{{ url }}"},
        {"id": "turned", "input": "What is answered by {{ a }}?", "target": "{{ q }}"},
        {"id": "same", "input": "Say something.", "target": "{{ q }}"},
    ]
    task = task_of("x.jsonl", {"q": "q", "a": "a", "url": "u"}, answer="a", templates=templates)
    assert questions(task) == {"hint": ("q",), "turned": ("a",), "same": ()}


@pytest.mark.parametrize("columns", [["q", "a"], None])
def test_a_byte_order_mark_is_no_part_of_the_first_cell(tmp_path, columns):
    path = tmp_path / "a.tsv"
    head = b"" if columns else b"q\ta\n"
    path.write_bytes(b"\xef\xbb\xbf" + head + "one\tyes\n\ufefftwo\tno\n".encode())
    good, _ = read(task_of(path, {"q": "q", "a": "a"}, source={"columns": columns or []}))
    assert [row["field:q"] for row in good] == ["one", "\ufefftwo"]


def test_an_id_that_is_none_of_the_columns_of_a_file_without_a_header_is_a_mistake():
    message = r"source: id: no column 'idd'; did you mean 'id'\? Allowed: id, q"
    with pytest.raises(ConfigError, match=message):
        task_of("x.tsv", {"q": "q"}, source={"columns": ["id", "q"], "id": "idd"})


@pytest.mark.parametrize(
    ("id_", "message"),
    [
        ("../x", r"id: found '\.\./x'; allowed are letters, digits and underscores"),
        ("x" * 101, r"id: found a name of 101 bytes; allowed are 100"),
    ],
)
def test_documents_have_an_id_that_can_be_a_folder(id_, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(Documents, {"documents": "runs/x", "id": id_})


def test_a_kept_shard_that_is_missing_is_named(tmp_path):
    shards = {"kept": [{"path": "kept/part-000000.parquet", "rows": 1, "sha256": "0"}]}
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "kind": "curated", "shards": shards}))
    with pytest.raises(DataError, match=r"part-000000\.parquet: missing, though the run's manifest names it"):
        task_files(Documents(str(tmp_path)).task())


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet", "txt"])
def test_the_columns_of_a_file_are_named_where_it_has_names(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"q": ["one"], "n": [1]}), path)
    else:
        path.write_text(
            {"jsonl": '{"q": 1, "n": 2}\n', "csv": "q,n\n1,2\n", "tsv": "q\tn\n"}.get(suffix, "q n")
        )
    (file,) = task_files(task_of(path, {"q": "q"}))
    assert column_names(file) == ([] if suffix == "txt" else ["q", "n"])
