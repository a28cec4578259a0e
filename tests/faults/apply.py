"""Plant each fault of this folder in a copy of the project and say which test catches it: ``make faults``.

A fault is a patch whose first lines say what it breaks and which tests are to notice:

    # The trainer lets packed examples see each other.
    # caught by: tests/mixtures/train/test_isolation.py

A fault that no test notices makes this program fail. So does a patch that no longer applies.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PRIVATE = shutil.ignore_patterns(
    ".git", ".venv", "runs", "__pycache__", "*.egg-info", ".hypothesis", ".*_cache"
)


def left_out(folder: str, names: list[str]) -> set[str]:
    """What a copy of the project does not need, and what cannot be copied."""
    return {*PRIVATE(folder, names), *(n for n in names if Path(folder, n).is_socket())}


def headline(patch: Path) -> str:
    """What the fault breaks."""
    return patch.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def catchers(patch: Path) -> list[str]:
    """The tests that are to notice it."""
    found = re.search(r"^# caught by: (.+)$", patch.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if found is None:
        raise SystemExit(f"{patch.name}: no line '# caught by: tests/...'")
    return found[1].split()


def plant(patch: Path, copy: Path, *, undo: bool = False) -> None:
    """Apply the patch to the copy, or take it back."""
    command = ["git", "apply", *(["--reverse"] if undo else []), str(patch)]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{patch.name} does not apply any more: {done.stderr.strip()}")


def first_failure(copy: Path, tests: list[str]) -> str | None:
    """The first test that fails in the copy, or None."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--durations=0", *tests]
    environment = {
        "PYTHONPATH": str(copy),
        "NUMBA_CACHE_DIR": str(copy / ".numba"),
        "PATH": "/usr/bin:/bin",
        "HOME": str(copy),
    }
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, env=environment)
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, flags=re.MULTILINE)
    if failed is None and done.returncode not in (0, 1):
        raise SystemExit(f"pytest could not run in the copy:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return failed[1] if failed else None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="only these faults (file names without .patch)")
    options = parser.parse_args()
    patches = [p for p in sorted(HERE.glob("*.patch")) if not options.names or p.stem in options.names]
    missed = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=left_out)
        for number, patch in enumerate(patches, 1):
            plant(patch, copy)
            caught = first_failure(copy, catchers(patch))
            plant(patch, copy, undo=True)
            print(
                f"[{number}/{len(patches)}] {headline(patch)}\n        {f'caught by {caught}' if caught else 'NOT CAUGHT'}",
                flush=True,
            )
            if caught is None:
                missed.append(patch.stem)
    print(
        f"{len(patches) - len(missed)} of {len(patches)} faults caught"
        + (f"; not caught: {', '.join(missed)}" if missed else "")
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
