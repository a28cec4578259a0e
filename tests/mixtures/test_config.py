from fractions import Fraction
from pathlib import Path

import pytest
import yaml

from curate.config import from_mapping, load_config, to_mapping
from filters.errors import ConfigError
from mixtures.config import MixtureConfig, branches, is_held_out, leaf_shares
from mixtures.tasks import Documents, Task, load_task, load_tasks

ROOT = Path(__file__).parents[2]


def task_of(id_, *, cot=False, kind="raw", **settings):
    plain = {"id": "t", "input": "{{ q }}", "target": "{{ a }}"}
    steps = {"id": "c", "cot": True, "input": "{{ q }}", "target": "{{ why }} {{ a }}"}
    fields = {"q": "q", "a": "a", "why": "why"} if kind == "raw" else {"input": "i", "target": "t"}
    raw = {"templates": [plain, *([steps] if cot else [])], "rationale": "why"} if kind == "raw" else {}
    return from_mapping(
        Task, {"id": id_, "kind": kind, "source": {"path": "x"}, "fields": fields, **raw, **settings}
    )


TASKS = (
    task_of("gsm8k", cot=True, cluster="math"),
    task_of("aqua", cot=True, cluster="math"),
    task_of("rte", cluster="nli", cap=100),
    task_of("cb", cluster="nli"),
    task_of("t0_rte", kind="rendered", dataset="rte_prompts", cluster="nli"),
    task_of("gsm8k_test", cot=True, dataset="gsm8k", split="eval"),
    Documents("runs/web").task(),
)


def config_of(parts, **settings):
    return from_mapping(
        MixtureConfig,
        {"tasks": ["x.yaml"], "mixture": {"parts": parts}, "budget": {"examples": 10}, **settings},
    )


def names(parts, **settings):
    return [branch.name for branch in branches(config_of(parts, **settings), TASKS)]


def shares(parts, sizes, **settings):
    config = config_of(parts, **settings)
    leaves = branches(config, TASKS)
    return leaf_shares(config, leaves, {leaf.name: sizes[leaf.task.id] for leaf in leaves})


SIZES = {"gsm8k": 7000, "aqua": 3000, "rte": 2000, "cb": 250, "t0_rte": 400, "documents": 10_000}


def test_a_leaf_is_a_task_under_a_part_and_evaluation_splits_are_none():
    parts = {
        "math": {"tasks": {"cluster": ["math"]}},
        "cot": {"tasks": {"cot": True}, "variants": {"cot": {1: 1}}},
        "text": {"tasks": {"source": "documents"}},
    }
    assert names(parts) == ["math.gsm8k", "math.aqua", "cot.gsm8k", "cot.aqua", "text.documents"]
    made = branches(config_of(parts), TASKS)
    assert [list(leaf.variants.cot) for leaf in made] == [[0], [0], [1], [1], [0]]


@pytest.mark.parametrize(
    ("selection", "ids"),
    [
        (["cb", "aqua"], ["cb", "aqua"]),
        ({"cluster": ["nli"]}, ["rte", "cb", "t0_rte"]),
        ({"cluster": ["nli"], "source": "raw"}, ["rte", "cb"]),
        ({"source": "rendered"}, ["t0_rte"]),
        ({"dataset": ["cb", "rte"]}, ["rte", "cb"]),
        ({"cot": False, "cluster": ["math", "nli"]}, ["rte", "cb", "t0_rte"]),
        ({}, ["gsm8k", "aqua", "rte", "cb", "t0_rte", "documents"]),
    ],
)
def test_tasks_are_chosen_by_name_or_by_what_they_are(selection, ids):
    assert names({"p": {"tasks": selection}}) == [f"p.{id_}" for id_ in ids]


def test_a_held_out_dataset_is_in_no_leaf_of_any_selection():
    hold_out = {"hold_out": {"datasets": ["gsm8k", "rte"]}}
    assert names({"all": {"tasks": {}}}, **hold_out) == ["all.aqua", "all.cb", "all.t0_rte", "all.documents"]
    config = config_of({"all": {"tasks": {}}}, **hold_out)
    assert [task.id for task in TASKS if is_held_out(config, task)] == ["gsm8k", "rte", "gsm8k_test"]


def test_shares_follow_weights_between_parts_and_capped_sizes_inside():
    parts = {
        "nli": {"tasks": {"cluster": ["nli"]}, "cap": 300, "weight": 0.4},
        "math": {"tasks": {"cluster": ["math"]}, "rate": "equal", "weight": 0.1},
        "text": {"tasks": {"source": "documents"}, "weight": 0.3},
    }
    assert shares(parts, SIZES) == {
        "nli.rte": Fraction(1, 2) * Fraction(100, 650),  # its own cap of 100 is the lower one
        "nli.cb": Fraction(1, 2) * Fraction(250, 650),
        "nli.t0_rte": Fraction(1, 2) * Fraction(300, 650),
        "math.gsm8k": Fraction(1, 16),
        "math.aqua": Fraction(1, 16),
        "text.documents": Fraction(3, 8),
    }


def test_without_weights_parts_weigh_what_their_tasks_do_together():
    parts = {"math": {"tasks": ["gsm8k"], "cap": 5000}, "nli": {"tasks": ["cb"]}}
    assert shares(parts, SIZES) == {"math.gsm8k": Fraction(5000, 5250), "nli.cb": Fraction(250, 5250)}


def test_weights_inside_a_part_move_its_rates_without_changing_their_sum():
    parts = {
        "tasks": {
            "parts": {
                "math": {"tasks": ["gsm8k", "aqua"], "rate": {"gsm8k": 2, "aqua": 1}, "weight": 3},
                "nli": {"tasks": ["cb"], "weight": 1},
            }
        },
        "text": {"tasks": ["documents"]},
    }
    # inside "tasks": 3/4 to math (its two tasks 2:1) and 1/4 to nli; "tasks" as a whole has the rates 2 + 1 + 250
    total = Fraction(253 + 10_000)
    assert shares(parts, SIZES) == {
        "tasks.math.gsm8k": Fraction(253) * Fraction(3, 4) * Fraction(2, 3) / total,
        "tasks.math.aqua": Fraction(253) * Fraction(3, 4) * Fraction(1, 3) / total,
        "tasks.nli.cb": Fraction(253) * Fraction(1, 4) / total,
        "text.documents": 10_000 / total,
    }


def test_a_part_of_weight_0_has_its_leaves_and_gives_nothing():
    parts = {"a": {"tasks": ["gsm8k"], "weight": 0}, "b": {"tasks": ["cb"], "weight": 0.3}}
    assert shares(parts, SIZES) == {"a.gsm8k": 0, "b.cb": 1}


def test_shares_always_sum_to_one():
    parts = {
        "a": {"tasks": {"cot": True}, "weight": 0.1},
        "b": {"parts": {"c": {"tasks": {}, "weight": 7}}, "weight": 0.7},
    }
    assert sum(shares(parts, SIZES).values()) == 1


def test_the_name_of_a_leaf_must_be_short_enough_for_a_folder():
    assert names({"p" * 100: {"tasks": ["cb"]}}) == ["p" * 100 + ".cb"]
    with pytest.raises(ConfigError, match=r"parts: found a name of 102 bytes; allowed are 100"):
        config_of({"é" * 51: {"tasks": ["cb"]}})
    nested = {"a" * 100: {"parts": {"b" * 100: {"parts": {"c" * 17: {"tasks": ["cb"]}}}}}}
    with pytest.raises(
        ConfigError, match=r"the leaf 'a+\.b+\.c+\.cb' has a name of 222 bytes; allowed are 220"
    ):
        names(nested)


def test_all_mistakes_about_tasks_are_reported_together():
    parts = {
        "a": {"tasks": ["gsm8kk", "rte", "gsm8k_test"]},
        "b": {"parts": {"c": {"tasks": {"cluster": ["mth"]}}}},
        "d": {"tasks": ["cb", "cb"], "rate": {"cb": 1, "aqua": 2}},
    }
    config = config_of(parts, hold_out={"datasets": ["rte", "qsac"]})
    with pytest.raises(ConfigError) as caught:
        branches(config, TASKS)
    faults = caught.value.faults
    assert "$.hold_out.datasets: no task has the dataset 'qsac'" in faults[0]
    assert faults[1].startswith("$.mixture.parts.a.tasks: no task 'gsm8kk'; did you mean 'gsm8k'?")
    assert faults[2] == "$.mixture.parts.a.tasks: 'rte' is of the held-out dataset 'rte'. Leave it out here."
    assert faults[3] == "$.mixture.parts.a.tasks: 'gsm8k_test' is for evaluation only. Leave it out here."
    assert faults[4].startswith("$.mixture.parts.b.parts.c.tasks: no task fits.")
    assert faults[5] == "$.mixture.parts.d.tasks: a task is named twice. Name it once."
    assert faults[6].startswith("$.mixture.parts.d.rate: 'aqua' is no task of this part")
    assert len(faults) == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixture": {"parts": {}}}, "a mixture has at least one"),
        ({"mixture": {"parts": {"a": {}}}}, r"\$\.mixture\.parts\.a: a part has either tasks or parts"),
        ({"mixture": {"parts": {"a.b": {"tasks": ["x"]}}}}, "parts: found 'a.b'; allowed are letters"),
        (
            {"mixture": {"parts": {"a": {"tasks": ["x"], "weight": 1}, "b": {"tasks": ["y"]}}}},
            "either all have a weight or none; without are b",
        ),
        (
            {"mixture": {"parts": {"a": {"tasks": ["x"], "weight": -1}}}},
            r"weight: found -1.0; allowed: 0 or more",
        ),
        (
            {"mixture": {"parts": {"a": {"tasks": ["x"], "weight": 0}, "b": {"tasks": ["y"], "weight": 0}}}},
            r"the weight of every part is 0",
        ),
        (
            {"mixture": {"parts": {"a": {"tasks": ["x"], "cap": 5, "rate": "equal"}}}},
            "only with rate: proportional",
        ),
        (
            {"mixture": {"parts": {"a": {"tasks": ["x"], "rate": {"x": -1}}}}},
            "rate: allowed are numbers above 0",
        ),
        ({"budget": {"examples": 5, "tokens": 5}}, "exactly one of examples, tokens, target_tokens"),
        ({"budget": {}}, "exactly one of"),
        ({"pack": {"length": 8}}, "length: found 8; allowed: 16 to 1048576"),
        ({"tokenizer": {"bpe": 100, "train_on": "x"}}, "bpe: found 100; allowed: 259"),
        ({"pakc": {"length": 64}}, "pakc: no such setting; did you mean 'pack'"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_with_its_place(settings, message):
    good = {"tasks": ["x"], "mixture": {"parts": {"a": {"tasks": ["x"]}}}, "budget": {"tokens": "20M"}}
    assert from_mapping(MixtureConfig, good).budget.tokens == 20_000_000
    with pytest.raises(ConfigError, match=message):
        from_mapping(MixtureConfig, {**good, **settings})


def test_a_config_survives_being_written_out_with_every_default():
    config = config_of(
        {"a": {"tasks": {"cot": True}, "variants": {"shots": {3: 1}}}},
        tokenizer={"bpe": 300, "train_on": "r"},
    )
    assert from_mapping(MixtureConfig, to_mapping(config)) == config


def test_the_demo_config_loads_and_its_leaves_hold_no_held_out_dataset(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = load_config("configs/mixtures/demo.yaml", MixtureConfig)
    tasks = load_tasks(config.tasks)
    held_out = set(config.hold_out.datasets)
    assert held_out == {"qasc", "commonsense_qa"} <= {task.dataset for task in tasks}
    leaves = branches(config, tasks)
    assert {leaf.task.kind for leaf in leaves} == {"raw", "rendered", "documents"}
    assert not {leaf.task.dataset for leaf in leaves} & held_out


@pytest.mark.parametrize("path", sorted((ROOT / "configs/tasks").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_task_config_says_what_it_is_and_loads_with_two_templates_of_each_kind(path):
    first, second = path.read_text().splitlines()[:2]
    assert first.startswith("# ") and "mixtures plan configs/mixtures/demo.yaml" in second
    task = load_task(path)
    assert task.licence and task.cluster and task.category
    if task.kind == "raw" and task.split == "train":
        assert len(task.templates_for(cot=False)) == 2
        assert len(task.templates_for(cot=True)) in (0, 2)
        assert (task.rationale is None) == (not task.has_rationale)


def test_the_first_lines_of_the_demo_mixture_are_the_commands_to_run_it():
    lines = (ROOT / "configs/mixtures/demo.yaml").read_text().splitlines()
    assert any(
        "mixtures build configs/mixtures/demo.yaml --out runs/demo/mixture" in line for line in lines[:5]
    )
    assert yaml.safe_load("\n".join(lines))["tokenizer"]["train_on"] == "runs/demo/curated"
