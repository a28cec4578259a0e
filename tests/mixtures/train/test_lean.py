"""The trainer on a node that has PyTorch and transformers, and none of what curation needs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# What transformers itself requires (pyyaml, among others) is on such a node and is not hidden.
HIDDEN = ("ray", "polars", "datasets", "fasttext", "numba", "xxhash", "rich", "jinja2", "datasketch", "ftfy", "zstandard", "py3langid", "pandas", "sklearn", "scipy")  # fmt: skip
HIDE = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname.split(".")[0] in HIDDEN else PathFinder.find_spec(fullname, path, target)

sys.meta_path = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
"""


def run(code, hidden, *arguments):
    """Run code in a fresh process in which some packages are not installed."""
    script = f"HIDDEN = {hidden!r}\n{HIDE}\n{code}"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments], capture_output=True, text=True, cwd=ROOT
    )


def test_training_and_scoring_work_without_the_libraries_of_curation(tmp_path, mixture):
    code = """
from mixtures.train import Recipe, Shape, bits_per_byte, fine_tune, load_model, pretrain, score
mixture, out = sys.argv[1:]
recipe = Recipe(steps=2, tokens_per_step=192)
shape = Shape(hidden=32, feed_forward=48, layers=1, heads=2)
pretrain(mixture, out + "/base", size=shape, vocab_size=97, recipe=recipe, device="cpu")
fine_tune(out + "/base", mixture, out + "/arm", recipe=recipe, device="cpu")
print(round(bits_per_byte(score(load_model(out + "/arm"), mixture + "/eval", device="cpu")), 1))
print(sorted({name.split(".")[0] for name in sys.modules} & set(HIDDEN) | {"curate"} & set(sys.modules)))
"""
    done = run(code, HIDDEN, str(mixture), str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    bits, loaded = done.stdout.splitlines()
    assert (
        2.5 < float(bits) < 4.5
    )  # an untrained model needs log2(97) / 2 = 3.3 bits for one of the two bytes
    assert loaded == "[]"


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_without_the_extra_the_error_names_feature_package_and_command(package):
    code = """
from filters import MissingExtra
import mixtures.train
print(mixtures.train.Recipe(steps=3).steps)
try:
    mixtures.train.build_model
except MissingExtra as error:
    print(error)
"""
    done = run(code, (package,))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "3",
        f"mixtures.train.build_model needs the package '{package}'. Install it: pip install 'curate-mixtures[train]'",
    ]


def test_importing_the_trainer_s_face_loads_neither_torch_nor_transformers():
    done = run("import mixtures.train as t; t.Recipe(), t.SIZES; print(sorted(sys.modules))", ())
    assert done.returncode == 0, done.stderr
    assert "'mixtures.train.recipe'" in done.stdout
    assert "'torch'" not in done.stdout and "'transformers'" not in done.stdout
