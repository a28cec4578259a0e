"""The planted faults stay plantable: each patch applies to the project as it is, and names tests that exist."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATCHES = sorted((ROOT / "tests" / "faults").glob("*.patch"))
spec = importlib.util.spec_from_file_location("apply_faults", ROOT / "tests" / "faults" / "apply.py")
assert spec is not None and spec.loader is not None
apply_faults = importlib.util.module_from_spec(spec)
spec.loader.exec_module(apply_faults)


def test_there_are_faults_for_every_floor() -> None:
    text = "".join(p.read_text(encoding="utf-8") for p in PATCHES)
    assert len(PATCHES) >= 12
    for floor in ("filters", "curate", "mixtures", "mixtures/train", "mixtures/study"):
        assert f"--- a/{floor}/" in text


@pytest.mark.parametrize("patch", PATCHES, ids=lambda p: p.stem)
def test_a_fault_applies_and_names_tests_that_exist(patch: Path) -> None:
    checked = subprocess.run(
        ["git", "apply", "--check", str(patch)], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    assert apply_faults.headline(patch)
    for test in apply_faults.catchers(patch):
        path, _, name = test.partition("::")
        assert name.split("[")[0] in (ROOT / path).read_text(encoding="utf-8")
