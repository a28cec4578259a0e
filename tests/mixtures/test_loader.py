import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.errors import DataError
from mixtures.loader import read_examples
from mixtures.plan import Leaf, plan_of, variant_shares
from mixtures.shards import finish_dataset, write_shard

ROOT = Path(__file__).parents[2]
VARIANTS = variant_shares([("0shot", 1, ("a", "b")), ("3shot", 1, ("a", "b"))])
PLAN = plan_of(
    [Leaf("raw.nli", 40, VARIANTS), Leaf("raw.qa", 7, VARIANTS), Leaf("text", 90, VARIANTS)],
    {"raw.nli": 5, "raw.qa": 2, "text": 3},
    seed=3,
    examples=400,
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """A pool of PLAN in shards of 50; the tokens of an example say which it is."""
    directory = tmp_path_factory.mktemp("pool")
    for number, leaf in enumerate(PLAN.leaves):
        ordinals = np.arange(PLAN.counts(400)[leaf.name])
        epoch, row, variant, template = PLAN.examples_of(number, ordinals)
        order = np.lexsort((row, epoch))
        rows = [
            {
                "source": None,
                "id": f"{leaf.name}#{row[i]}",
                "row": int(row[i]),
                "epoch": int(epoch[i]),
                "template": "ab"[template[i]],
                "variant": VARIANTS[variant[i]].name,
                "tokens": [number, int(ordinals[i])],
                "loss": [0.0, 1.0],
            }
            for i in order
        ]
        schema = pa.schema(
            [
                ("source", pa.string()),
                ("id", pa.string()),
                ("row", pa.int64()),
                ("epoch", pa.int32()),
                ("template", pa.string()),
                ("variant", pa.string()),
                ("tokens", pa.list_(pa.int32())),
                ("loss", pa.list_(pa.float32())),
            ]
        )
        (directory / leaf.name).mkdir()
        for shard in range(0, len(rows), 50):
            path = directory / leaf.name / f"data-{shard // 50:05d}.arrow"
            write_shard(path, pa.Table.from_pylist(rows[shard : shard + 50], schema))
        finish_dataset(directory / leaf.name)
    return directory


@settings(max_examples=30)
@given(st.integers(0, 399), st.integers(1, 120))
def test_any_stretch_comes_back_in_the_plans_order(pool, lo, length):
    hi = min(lo + length, 400)
    block = PLAN.block(lo, hi)
    examples = read_examples(PLAN, pool, lo, hi).to_pylist()
    assert [e["index"] for e in examples] == list(range(lo, hi))
    assert [e["tokens"] for e in examples] == [
        [leaf, o] for leaf, o in zip(block.leaf.tolist(), block.ordinal.tolist(), strict=True)
    ]
    for e in examples:
        pick = PLAN[e["index"]]
        assert (e["leaf"], e["epoch"], e["row"], e["variant"], e["template"]) == (
            pick.leaf, pick.epoch, pick.row, pick.variant, pick.template,
        )  # fmt: skip


def test_a_pool_of_a_smaller_plan_is_refused_with_what_it_lacks(pool):
    with pytest.raises(
        DataError, match=r"pool/.*no example of row \d+ in epoch \d+, and \d+ more are missing"
    ):
        read_examples(PLAN, pool, 400, 500)


def test_a_pool_of_another_seed_or_other_templates_is_refused(pool):
    other = plan_of(PLAN.leaves, {"raw.nli": 5, "raw.qa": 2, "text": 3}, seed=4, examples=400)
    with pytest.raises(DataError, match=r"no example of row .* build the mixture again"):
        read_examples(other, pool, 0, 400)
    renamed = variant_shares([("0shot", 1, ("a", "c")), ("3shot", 1, ("a", "c"))])
    leaves = [Leaf(leaf.name, leaf.rows, renamed) for leaf in PLAN.leaves]
    with pytest.raises(DataError, match="other templates or variants"):
        read_examples(
            plan_of(leaves, {"raw.nli": 5, "raw.qa": 2, "text": 3}, seed=3, examples=400), pool, 0, 100
        )


def test_reading_a_mixture_loads_nothing_that_a_gpu_node_has_not():
    code = (
        "import sys, mixtures.loader, mixtures.packing, mixtures.tokenizer, mixtures.train;"
        "print([m for m in ('ray', 'polars', 'datasets', 'fasttext', 'numba', 'xxhash', 'rich', 'yaml', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
