import gzip
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mixtures.build as build_module
from curate.config import from_mapping
from curate.manifest import write_manifest
from curate.schema import documents_schema
from curate.shards import ShardWriter
from filters.errors import ConfigError, DataError, RunError
from mixtures.build import build_mixture, plan_mixture
from mixtures.config import MixtureConfig
from mixtures.fewshot import question_key
from mixtures.loader import read_examples
from mixtures.packing import pack_table
from mixtures.plan import Plan
from mixtures.shards import read_shard, read_shards
from mixtures.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests/data/tasks"
ROWS = 300
QUIET = {"engine": "inline", "progress": False}

TASKS = {
    "gsm8k": {
        "cluster": "math",
        "source": {"path": "data/gsm8k.jsonl.gz", "id": "id"},
        "fields": {
            "question": "question",
            "why": {"column": "answer", "before": "####", "remove": "<<[^<>]*>>"},
            "answer": {"column": "answer", "after": "####"},
        },
        "answer": "answer",
        "rationale": "why",
        "templates": [
            {"id": "plain", "input": "{{ question }}", "target": "{{ answer }}"},
            {"id": "label", "input": "Problem: {{ question }}", "target": "{{ answer }}"},
            {
                "id": "steps",
                "cot": True,
                "input": "{{ question }} How?",
                "target": "{{ why }} So the answer is {{ answer }}.",
            },
        ],
    },
    "tatoeba": {
        "source": {"path": "data/tatoeba.jsonl.gz", "id": "id"},
        "fields": {"text": "text", "english": "english"},
        "answer": "english",
        "templates": [
            {"id": "plain", "input": "{{ text }} In English:", "target": "{{ english }}"},
            {"id": "ask", "input": "What does this mean? {{ text }}", "target": "{{ english }}"},
        ],
    },
    "quartz": {
        "kind": "rendered",
        "source": {"path": "data/t0_quartz.jsonl.gz", "id": "id"},
        "fields": {"input": "prompt", "target": "completion"},
    },
    "qasc": {
        "cluster": "qa",
        "source": {"path": "data/qasc_cot.tsv.gz", "columns": ["q", "a", "w"], "unescape": True},
        "fields": {"q": "q", "a": "a", "w": "w"},
        "answer": "a",
        "rationale": "w",
        "templates": [
            {"id": "plain", "input": "{{ q }}", "target": "{{ a }}"},
            {"id": "steps", "cot": True, "input": "{{ q }} Why?", "target": "{{ w }} So {{ a }}."},
        ],
    },
}
CONFIG = {
    "seed": 17,
    "tokenizer": {"bpe": 400, "train_on": "curated"},
    "tasks": ["tasks/*.yaml", {"documents": "curated"}],
    "variants": {"shots": {0: 0.5, 3: 0.5}, "cot": {0: 0.7, 1: 0.3}},
    "mixture": {
        "parts": {
            "raw": {"tasks": {"source": "raw"}, "cap": 200, "weight": 0.5},
            "rendered": {"tasks": ["quartz"], "weight": 0.2},
            "text": {"tasks": {"source": "documents"}, "weight": 0.3},
        }
    },
    "hold_out": {"datasets": ["qasc"]},
    "eval": {"items": 12},
    "pack": {"length": 400},
    "budget": {"examples": 1500},
}


def config_of(**changes):
    return from_mapping(MixtureConfig, {**CONFIG, **changes})


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with real tasks, their YAML files and a small curated run; commands run inside it."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "data").mkdir()
    (folder / "tasks").mkdir()
    for id_, task in TASKS.items():
        name = Path(task["source"]["path"]).name
        lines = gzip.decompress((SAMPLES / name).read_bytes()).split(b"\n")
        (folder / "data" / name).write_bytes(gzip.compress(b"\n".join(lines[:ROWS]) + b"\n", mtime=0))
        (folder / "tasks" / f"{id_}.yaml").write_text(json.dumps({"id": id_, **task}))
    make_curated(folder / "curated")
    return folder


def make_curated(directory):
    """30 documents in two shards, as ``curate run`` leaves them."""
    (directory / "kept").mkdir(parents=True)
    pages = (ROOT / "tests/data/documents/sqlite.jsonl").read_text().split("\n")
    shards = []
    for shard in range(2):
        path = f"kept/part-{shard:06d}.parquet"
        rows = [{**json.loads(page), "source": "sqlite"} for page in pages[15 * shard : 15 * (shard + 1)]]
        rows = [{name: row[name] for name in ("id", "source", "text")} for row in rows]
        with ShardWriter(directory / path, documents_schema([])) as writer:
            writer.write(pa.Table.from_pylist(rows, documents_schema([])))
        sha256 = hashlib.sha256((directory / path).read_bytes()).hexdigest()
        shards.append({"path": path, "rows": len(rows), "sha256": sha256})
    write_manifest(directory, {"kind": "curated", "shards": {"kept": shards}})


@pytest.fixture(scope="module")
def built(workplace):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace)
        return build_mixture(config_of(), "mixture", **QUIET)


def contents(directory):
    """Relative path -> SHA-256 of every public file of a mixture directory."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.relative_to(directory).parts[0] not in (".steps", "log")
    }


def pool_rows(directory):
    return {
        leaf.name: read_shards(leaf).to_pylist()
        for leaf in sorted((directory / "pool").iterdir())
        if leaf.is_dir()
    }


# -- what a mixture directory holds ----------------------------------------------------------------------------------------


def test_delivered_examples_are_those_of_the_plan_and_within_ten_of_the_weights(built):
    plan = Plan.from_json((built.directory / "plan.json").read_text())
    assert plan == built.planned.plan and plan.examples == 1500
    refs = [ref for row in read_shards(built.directory / "packs").column("refs").to_pylist() for ref in row]
    assert sorted(ref["index"] for ref in refs) == list(range(1500))
    delivered = {leaf.name: sum(ref["leaf"] == leaf.name for ref in refs) for leaf in plan.leaves}
    assert (
        delivered
        == plan.counts(1500)
        == {entry["name"]: entry["examples"] for entry in built.manifest["leaves"]}
    )
    shares = {"raw.gsm8k": 0.25, "raw.tatoeba": 0.25, "rendered.quartz": 0.2, "text.documents": 0.3}
    assert set(delivered) == set(shares)
    for leaf, share in shares.items():
        assert abs(delivered[leaf] - 1500 * share) <= 10
    for ref in refs[:200]:
        pick = plan[ref["index"]]
        assert (ref["leaf"], ref["row"], ref["epoch"]) == (pick.leaf, pick.row, pick.epoch)
        assert (ref["variant"], ref["template"]) == (pick.variant, pick.template)


def test_variants_are_delivered_in_their_shares(built):
    entry = next(leaf for leaf in built.manifest["leaves"] if leaf["name"] == "raw.gsm8k")
    for variant, share in {"0shot": 0.35, "3shot": 0.35, "0shot+cot": 0.15, "3shot+cot": 0.15}.items():
        assert abs(entry["variants"][variant] - share * entry["examples"]) <= 10
    assert set(next(e for e in built.manifest["leaves"] if e["name"] == "raw.tatoeba")["variants"]) == {
        "0shot",
        "3shot",
    }
    assert set(next(e for e in built.manifest["leaves"] if e["name"] == "rendered.quartz")["variants"]) == {
        "0shot"
    }


def test_every_segment_of_the_packs_is_an_example_of_the_pool(built):
    tokenizer = load_tokenizer(built.directory)
    pool = {
        (leaf, row["epoch"], row["row"]): row
        for leaf, rows in pool_rows(built.directory).items()
        for row in rows
    }
    assert len(pool) == 1500
    for row in read_shards(built.directory / "packs").to_pylist():
        segments = np.array(row["segments"])
        for ref in row["refs"]:
            at = segments == ref["segment"]
            example = pool[ref["leaf"], ref["epoch"], ref["row"]]
            assert np.array(row["tokens"])[at].tolist() == example["tokens"]
            assert np.array(row["loss"])[at].tolist() == example["loss"]
            assert ref["id"] == example["id"]
            assert example["tokens"][0] == tokenizer.bos and example["tokens"][-1] == tokenizer.eos


def test_packs_are_what_the_loader_makes_of_plan_and_pool(built):
    examples = read_examples(built.planned.plan, built.directory / "pool", 0, 1500)
    assert pack_table(examples, length=400) == read_shards(built.directory / "packs")


def test_a_pool_is_sorted_and_its_tokens_are_its_texts(built):
    tokenizer = load_tokenizer(built.directory)
    for leaf, rows in pool_rows(built.directory).items():
        keys = [(row["epoch"], row["row"]) for row in rows]
        assert keys == sorted(set(keys))
        for row in rows[:40]:
            between = "\n" if row["input"] else ""
            ids = tokenizer.encode([row["input"] + between, row["target"]])
            assert row["tokens"] == [tokenizer.bos, *ids[0], *ids[1], tokenizer.eos]
            assert row["loss"] == [0.0] * (1 + len(ids[0])) + [1.0] * (len(ids[1]) + 1)
            assert row["task"] == leaf.split(".")[1]


def test_no_exemplar_repeats_the_question_of_its_query(built):
    shown = 0
    for row in pool_rows(built.directory)["raw.gsm8k"]:
        texts = [piece["text"] for piece in row["pieces"] if piece["role"] == "exemplar"]
        question = next(piece["text"] for piece in row["pieces"] if piece["role"] == "input")
        assert question_key(question) not in [question_key(text.split("\n")[0]) for text in texts]
        shown += len(texts)
    entry = next(leaf for leaf in built.manifest["leaves"] if leaf["name"] == "raw.gsm8k")
    assert 0 < shown == entry["shots_given"] <= entry["shots_wanted"]


def test_rendered_targets_have_no_end_of_text_token(built):
    targets = [row["target"] for row in pool_rows(built.directory)["rendered.quartz"]]
    assert targets and not any("<|endoftext|>" in target for target in targets)


def test_document_rows_are_pieces_of_kept_documents_in_order(built, workplace):
    kept = {
        row["id"]: row["text"]
        for shard in sorted((workplace / "curated/kept").iterdir())
        for row in pq.read_table(shard).to_pylist()
    }
    pieces = {}
    for row in pool_rows(built.directory)["text.documents"]:
        document, _, number = row["id"].rpartition("@")
        assert row["input"] == "" and len(row["tokens"]) <= 400
        pieces.setdefault(document, {})[int(number)] = row["target"]
    joined = {document: "".join(parts[k] for k in range(len(parts))) for document, parts in pieces.items()}
    assert joined == kept  # the budget goes through this small leaf several times


def test_every_record_is_accounted_for(built):
    decisions = pa.concat_tables(
        [pq.read_table(p) for p in sorted((built.directory / "decisions").iterdir())]
    ).to_pylist()
    for task in built.manifest["tasks"]:
        assert task["read"] == task["used"] + sum(task["rejected"].values())
        drops = [d["rule"] for d in decisions if d["source"] == task["id"] and d["action"] == "drop"]
        assert {rule: drops.count(rule) for rule in drops} == task["rejected"]
    read = {task["id"]: task["read"] for task in built.manifest["tasks"]}
    assert read == {"gsm8k": ROWS, "tatoeba": ROWS, "quartz": ROWS, "documents": 30, "qasc": ROWS}
    by_id = {task["id"]: task for task in built.manifest["tasks"]}
    assert by_id["quartz"]["edited"] == {"render.end_of_text": ROWS}
    assert by_id["gsm8k"]["rejected"]["render.too_long"] > 0


def test_held_out_datasets_are_items_of_eval_and_of_no_leaf(built):
    assert not any("qasc" in leaf for leaf in pool_rows(built.directory))
    items = read_shards(built.directory / "eval").to_pylist()
    assert {(item["task"], item["dataset"]) for item in items} == {("qasc", "qasc")}
    by_variant = {v: [item for item in items if item["variant"] == v] for v in ("0shot", "0shot+cot")}
    assert [len(of) for of in by_variant.values()] == [12, 12] and len(items) == 24
    assert [i["id"] for i in by_variant["0shot"]] == [i["id"] for i in by_variant["0shot+cot"]]
    for plain, steps in zip(*by_variant.values(), strict=True):
        assert steps["target"].endswith(f"So {plain['target']}.")
        for item in (plain, steps):
            assert item["target_bytes"] == len(item["target"].encode())
            assert sum(item["loss"]) == len(load_tokenizer(built.directory).encode([item["target"]])[0]) + 1


def test_datasets_opens_the_mixture_its_pool_and_each_part(built):
    datasets = pytest.importorskip("datasets")
    top = datasets.load_from_disk(str(built.directory))
    assert top["packs"].num_rows == built.manifest["counts"]["rows"] and top["eval"].num_rows == 24
    pool = datasets.load_from_disk(str(built.directory / "pool"))
    assert {name: pool[name].num_rows for name in pool} == built.planned.plan.counts(1500)
    assert datasets.load_from_disk(str(built.directory / "pool" / "raw.gsm8k"))[0]["variant"] in (
        "0shot",
        "3shot",
        "0shot+cot",
        "3shot+cot",
    )


def test_the_manifest_lists_every_file_with_its_hash_and_its_parent(built, workplace):
    manifest = json.loads((built.directory / "manifest.json").read_text())
    assert (manifest["format"], manifest["kind"]) == (1, "mixture")
    files = contents(built.directory)
    listed = {shard["path"]: shard["sha256"] for shards in manifest["shards"].values() for shard in shards}
    listed["plan.json"] = manifest["plan"]["sha256"]
    listed["tokenizer.json"] = manifest["tokenizer"]["digest"]
    own = ("state.json", "dataset_info.json", "dataset_dict.json", "manifest.json")
    assert listed == {path: sha256 for path, sha256 in files.items() if not path.endswith(own)}
    parent = hashlib.sha256((workplace / "curated/manifest.json").read_bytes()).hexdigest()
    assert manifest["parents"] == [{"kind": "curated", "path": "curated", "sha256": parent}]
    for name, shards in manifest["shards"].items():
        if name != "decisions":
            assert sum(shard["rows"] for shard in shards) == read_shards(built.directory / name).num_rows
    assert {entry["source"] for entry in manifest["inputs"]} == {
        "gsm8k",
        "tatoeba",
        "quartz",
        "qasc",
        "documents",
    }


def test_no_public_file_names_the_machine(built, workplace):
    for path in contents(built.directory):
        assert str(workplace).encode() not in (built.directory / path).read_bytes(), path


def test_counts_of_the_manifest_are_those_of_the_rows(built):
    pool = [row for rows in pool_rows(built.directory).values() for row in rows]
    packs = read_shards(built.directory / "packs").to_pylist()
    counts = built.manifest["counts"]
    assert counts["examples"] == len(pool)
    assert (
        counts["tokens"]
        == sum(len(row["tokens"]) for row in pool)
        == sum(sum(s > 0 for s in row["segments"]) for row in packs)
    )
    assert (
        counts["target_tokens"]
        == sum(sum(row["loss"]) for row in pool)
        == sum(sum(row["loss"]) for row in packs)
    )
    assert built.manifest["pack"]["fill"] == counts["tokens"] / (len(packs) * 400) > 0.9


# -- the forecast ----------------------------------------------------------------------------------------------------------


def test_the_forecast_is_close_to_what_was_built(built):
    for row, entry in zip(built.planned.rows(), built.manifest["leaves"], strict=True):
        assert (row["leaf"], row["examples"]) == (entry["name"], entry["examples"])
        assert row["tokens"] == pytest.approx(entry["tokens"], rel=0.1)
        assert row["target_tokens"] == pytest.approx(entry["target_tokens"], rel=0.15)
    for unit in ("examples", "tokens", "target_tokens"):
        assert sum(row[f"{unit}_share"] for row in built.planned.rows()) == pytest.approx(1)


def test_the_table_has_a_line_for_each_leaf_and_a_total(built):
    lines = built.planned.table().splitlines()
    assert [line.split()[0] for line in lines] == [
        "leaf",
        "raw.gsm8k",
        "raw.tatoeba",
        "rendered.quartz",
        "text.documents",
        "total",
    ]
    row = built.planned.rows()[0]
    cells = lines[1].split()
    assert cells[3] == f"{row['examples']:,}" and cells[4] == f"{100 * row['examples_share']:.2f}"
    assert cells[5] == f"{row['tokens']:,}" and cells[7] == f"{row['target_tokens']:,}"
    assert lines[1].endswith("0shot 35% 3shot 35% 0shot+cot 15% 3shot+cot 15%")
    assert lines[-1].split()[2] == "1,500"


@pytest.mark.parametrize("unit", ["tokens", "target_tokens"])
def test_a_budget_in_tokens_is_met_within_five_percent(workplace, monkeypatch, tmp_path, unit):
    monkeypatch.chdir(workplace)
    config = config_of(
        budget={unit: 150_000 if unit == "tokens" else 60_000}, tokenizer="bytes", pack={"length": 1200}
    )
    made = build_mixture(config, tmp_path, **QUIET)
    assert made.manifest["counts"][unit] == pytest.approx(150_000 if unit == "tokens" else 60_000, rel=0.05)


def test_a_plan_builds_nothing_and_a_build_goes_on_from_it(workplace, built, monkeypatch, tmp_path):
    monkeypatch.chdir(workplace)
    planned = plan_mixture(config_of(), tmp_path, **QUIET)
    assert planned == built.planned
    assert contents(tmp_path) == {}
    build_mixture(config_of(), tmp_path, **QUIET)
    steps = [json.loads(line) for line in (tmp_path / "log/run.jsonl").read_text().splitlines()]
    assert [(s["step"], s["run"]) for s in steps[3:6]] == [("tokenizer", 0), ("check", 0), ("sample", 0)]
    assert contents(tmp_path) == contents(built.directory)


# -- the same bytes --------------------------------------------------------------------------------------------------------


def test_building_again_elsewhere_gives_the_same_bytes(workplace, built, monkeypatch, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(workplace, moved, ignore=shutil.ignore_patterns("mixture"))
    monkeypatch.chdir(moved)
    again = build_mixture(config_of(), "elsewhere", **QUIET)
    assert contents(again.directory) == contents(built.directory)


def test_a_build_that_was_interrupted_ends_like_an_undisturbed_one(workplace, built, monkeypatch, tmp_path):
    monkeypatch.chdir(workplace)

    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(build_module, "pack_part", fail)
        with pytest.raises(RunError, match="step 'pack', part 0 failed: OSError: no space left on device"):
            build_mixture(config_of(), tmp_path, **QUIET)
    assert not (tmp_path / "manifest.json").exists()
    build_mixture(config_of(), tmp_path, **QUIET)
    assert contents(tmp_path) == contents(built.directory)


def test_a_changed_config_replaces_what_it_changes_and_leaves_nothing_behind(
    workplace, built, monkeypatch, tmp_path
):
    monkeypatch.chdir(workplace)
    other = config_of(
        mixture={"parts": {"only": {"tasks": ["tatoeba"]}}},
        tokenizer="bytes",
        hold_out={},
        budget={"examples": 100},
    )
    build_mixture(config_of(), tmp_path, **QUIET)
    made = build_mixture(other, tmp_path, **QUIET)
    assert {path.split("/")[0] for path in contents(tmp_path)} == {
        "dataset_dict.json", "decisions", "eval", "manifest.json", "packs", "plan.json", "pool",
    }  # fmt: skip
    assert [p.name for p in (tmp_path / "pool").iterdir() if p.is_dir()] == ["only.tatoeba"]
    assert read_shards(tmp_path / "eval").num_rows == 0
    assert made.manifest["parents"] == []
    assert sorted(made.manifest["warnings"]) == [
        f"task '{name}' is in no part of the mixture" for name in ("documents", "gsm8k", "qasc", "quartz")
    ]
    build_mixture(config_of(), tmp_path, **QUIET)
    assert contents(tmp_path) == contents(built.directory)


@pytest.mark.ray
@pytest.mark.parametrize("workers", [1, 2])
def test_ray_gives_the_bytes_of_the_inline_engine(workplace, built, monkeypatch, tmp_path, workers):
    monkeypatch.chdir(workplace)
    build_mixture(config_of(), tmp_path, engine="ray", workers=workers, progress=False)
    assert contents(tmp_path) == contents(built.directory)


# -- mistakes --------------------------------------------------------------------------------------------------------------


def test_a_task_without_a_usable_row_stops_the_plan_with_its_reasons(workplace, monkeypatch, tmp_path):
    monkeypatch.chdir(workplace)
    with pytest.raises(
        DataError,
        match=r"without a usable row:\n(.|\n)*  quartz: 300 read; rejected: 300 render\.too_long\n    first, record .*: .*\n(.|\n)*  Correct",
    ):
        plan_mixture(config_of(pack={"length": 24}, tokenizer="bytes"), tmp_path, **QUIET)


def test_all_mistakes_are_named_at_once(workplace, monkeypatch, tmp_path):
    monkeypatch.chdir(workplace)
    lost = {**TASKS["tatoeba"], "id": "lost", "source": {"path": "data/lost.jsonl"}}
    (tmp_path / "lost.yaml").write_text(json.dumps(lost))
    wrong = config_of(
        tasks=["tasks/*.yaml", "none/*.yaml", str(tmp_path / "lost.yaml"), {"documents": "nowhere"}],
        tokenizer="missing.json",
        mixture={
            "parts": {
                "a": {"tasks": ["gsm8kk", "lost"]},
                "b": {"tasks": {"cluster": ["nli"]}},
                "c": {"tasks": {"source": "documents"}},
            }
        },
        hold_out={"datasets": ["qsac"]},
    )
    with pytest.raises(ConfigError) as caught:
        plan_mixture(wrong, tmp_path / "out", **QUIET)
    starts = [
        "$.tasks: 'none/*.yaml' matches no file",
        "$.hold_out.datasets: no task has the dataset 'qsac'; did you mean 'qasc'?",
        "$.mixture.parts.a.tasks: no task 'gsm8kk'; did you mean 'gsm8k'?",
        "$.mixture.parts.b.tasks: no task fits.",
        f"{tmp_path / 'lost.yaml'}: $.source.path: 'data/lost.jsonl' matches no file",
        "nowhere: no manifest.json",
        "$.tokenizer: no file missing.json; allowed are 'bytes', a tokenizer.json or a directory that has one.",
    ]
    assert [fault[: len(start)] for fault, start in zip(caught.value.faults, starts, strict=True)] == starts


def test_a_run_that_tasks_and_tokenizer_both_miss_is_named_once(workplace, monkeypatch, tmp_path):
    monkeypatch.chdir(workplace)
    tokenizer = {"bpe": 400, "train_on": "nowhere"}
    with pytest.raises(ConfigError) as caught:
        plan_mixture(
            config_of(tasks=["tasks/*.yaml", {"documents": "nowhere"}], tokenizer=tokenizer),
            tmp_path,
            **QUIET,
        )
    assert [fault.split(",")[0] for fault in caught.value.faults] == ["nowhere: no manifest.json"]


@pytest.mark.parametrize("tokenizer", ["bytes", {"bpe": 400, "train_on": "curated"}])
def test_a_kept_shard_that_was_changed_is_refused(workplace, monkeypatch, tmp_path, tokenizer):
    shutil.copytree(workplace, tmp_path / "moved", ignore=shutil.ignore_patterns("mixture"))
    monkeypatch.chdir(tmp_path / "moved")
    shard = Path("curated/kept/part-000001.parquet")
    table = pq.read_table(shard)
    pq.write_table(table.slice(1), shard)
    with pytest.raises(
        DataError, match=r"kept/part-000001\.parquet: not the bytes that the run's manifest names"
    ):
        plan_mixture(config_of(tokenizer=tokenizer), "out", **QUIET)


def test_documents_of_two_sources_that_share_an_id_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = {"web": "A page about rivers.\n" * 20, "books": "A chapter about the sea.\n" * 20}
    rows = [{"id": "1", "source": source, "text": text} for source, text in texts.items()]
    Path("curated/kept").mkdir(parents=True)
    shard = Path("curated/kept/part-000000.parquet")
    with ShardWriter(shard, documents_schema([])) as writer:
        writer.write(pa.Table.from_pylist(rows, documents_schema([])))
    sha256 = hashlib.sha256(shard.read_bytes()).hexdigest()
    kept = [{"path": "kept/part-000000.parquet", "rows": 2, "sha256": sha256}]
    write_manifest(Path("curated"), {"kind": "curated", "shards": {"kept": kept}})
    config = {
        "tasks": [{"documents": "curated"}],
        "mixture": {"parts": {"text": {"tasks": ["documents"]}}},
        "pack": {"length": 128},
        "budget": {"examples": 8},
    }
    made = build_mixture(from_mapping(MixtureConfig, config), "out", **QUIET)
    found = {source: {} for source in texts}
    for row in pool_rows(made.directory)["text.documents"]:
        found[row["source"]][row["id"]] = row["target"]
    assert sorted(found["web"]) == ["1@0", "1@1", "1@2", "1@3"]
    assert {source: "".join(pieces[k] for k in sorted(pieces)) for source, pieces in found.items()} == texts
    refs = [ref for row in read_shards(made.directory / "packs")["refs"].to_pylist() for ref in row]
    assert {(ref["source"], ref["id"]) for ref in refs} == {
        (source, id_) for source, pieces in found.items() for id_ in pieces
    }


def test_mixtures_that_share_their_steps_say_once_what_became_of_a_task(
    workplace, monkeypatch, tmp_path, caplog
):
    monkeypatch.chdir(workplace)
    caplog.set_level("INFO", logger="mixtures.build")
    config = config_of(tokenizer="bytes", pack={"length": 1000})
    said = []
    for name in ("a", "b"):
        build_mixture(config, tmp_path / name, steps=tmp_path / ".steps", **QUIET)
        said.append([r.getMessage() for r in caplog.records if "rejected" in r.getMessage()])
        caplog.clear()
    assert said[0] and said[1] == []
    for _ in range(2):
        plan_mixture(config, tmp_path / "alone", **QUIET)
        assert [r.getMessage() for r in caplog.records if "rejected" in r.getMessage()] == said[0]
        caplog.clear()


def test_no_example_shows_the_answer_to_a_question_that_only_an_unused_field_sets_apart(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    records = [{"q": f"What is {i % 4}?", "a": f"It is {i % 4}.", "u": f"http://{i}"} for i in range(40)]
    Path("rows.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    task = {
        "id": "qa",
        "source": {"path": "rows.jsonl"},
        "fields": {"q": "q", "a": "a", "url": "u"},
        "answer": "a",
        "templates": [{"id": "t", "input": "{{ q }}", "target": "{{ a }}"}],
    }
    Path("qa.yaml").write_text(json.dumps(task))
    config = {
        "tasks": ["qa.yaml"],
        "mixture": {"parts": {"all": {"tasks": ["qa"]}}},
        "variants": {"shots": {3: 1}},
        "budget": {"examples": 40},
    }
    made = build_mixture(from_mapping(MixtureConfig, config), "out", **QUIET)
    for row in pool_rows(made.directory)["all.qa"]:
        shown = [piece["text"] for piece in row["pieces"] if piece["role"] == "exemplar"]
        assert len(shown) == 3 and not any(row["target"] in text for text in shown)


def test_the_forecast_of_a_small_leaf_is_the_mean_of_the_examples_that_it_gives(
    workplace, monkeypatch, tmp_path
):
    monkeypatch.chdir(workplace)
    made = build_mixture(config_of(budget={"examples": 120}), tmp_path, **QUIET)
    for row, entry in zip(made.planned.rows(), made.manifest["leaves"], strict=True):
        assert 0 < entry["examples"] < 500
        assert (row["tokens"], row["target_tokens"]) == (entry["tokens"], entry["target_tokens"])


def test_the_parts_of_packing_are_smaller_where_rows_are_long(workplace, monkeypatch, tmp_path):
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(build_module, "PACK_TOKENS", 2 * 1024 * 400)  # 2 windows
    built = build_mixture(config_of(budget={"examples": 3000}), tmp_path, **QUIET)
    shards = built.manifest["shards"]["packs"]
    assert len(shards) == 2 and sum(shard["rows"] for shard in shards) == built.manifest["pack"]["rows"]
    refs = read_shard(tmp_path / shards[0]["path"])["refs"].to_pylist()
    assert max(ref["index"] for row in refs for ref in row) == 2047


def test_a_curated_run_that_is_not_there_is_named(workplace, monkeypatch, tmp_path):
    monkeypatch.chdir(workplace)
    with pytest.raises(ConfigError, match=r"nowhere: no manifest\.json"):
        plan_mixture(config_of(tasks=["tasks/*.yaml", {"documents": "nowhere"}]), tmp_path, **QUIET)


def test_a_tokenizer_that_is_none_is_refused_before_anything_is_run(workplace, monkeypatch, tmp_path):
    monkeypatch.chdir(workplace)
    with pytest.raises(ConfigError, match=r"\$\.tokenizer: no file missing\.json"):
        plan_mixture(config_of(tokenizer="missing.json"), tmp_path, **QUIET)


def test_a_given_tokenizer_is_copied_and_named_without_its_place(workplace, built, monkeypatch, tmp_path):
    monkeypatch.chdir(workplace)
    made = build_mixture(config_of(tokenizer=str(built.directory / "tokenizer.json")), tmp_path, **QUIET)
    assert made.manifest["config"]["tokenizer"] == "tokenizer.json"
    assert made.manifest["tokenizer"] == built.manifest["tokenizer"]
    same = {path: sha for path, sha in contents(built.directory).items() if path != "manifest.json"}
    assert {path: sha for path, sha in contents(tmp_path).items() if path != "manifest.json"} == same
