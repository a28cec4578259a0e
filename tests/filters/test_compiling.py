"""What the first kernel of a process loads, and what it leaves as it was."""

from __future__ import annotations

import subprocess
import sys

FIRST_KERNEL = """
import sys
import pyarrow as pa
from curate.deduplication import dedup
columns = [pa.StringArray.from_buffers(2, pa.py_buffer(b"\\0\\0\\0\\0\\3\\0\\0\\0\\6\\0\\0\\0"), pa.py_buffer(b"a ba b"))]
assert dedup(pa.Table.from_arrays(columns, ["text"])).is_kept.tolist() == [True, False]
print(sorted({"pandas", "scipy.linalg"} & set(sys.modules)))
"""

PRODUCT = """
import numpy as np
from filters.compiling import njit
@njit
def product(a, b):
    return np.dot(a, b)
print(product(np.eye(2), np.full((2, 2), 3.0)).tolist())
"""


def said_by(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_search_for_duplicates_loads_neither_pandas_nor_linear_algebra() -> None:
    assert said_by(FIRST_KERNEL) == "[]"


def test_products_of_matrices_can_still_be_compiled() -> None:
    assert said_by(PRODUCT) == "[[3.0, 3.0], [3.0, 3.0]]"
