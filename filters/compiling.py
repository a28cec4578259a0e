"""Numba for our kernels, without the libraries that it would load and no kernel of ours needs.

To learn whether it could compile products of matrices, Numba imports scipy.linalg with the first kernel of a process: a
quarter of a second, more than most kernels' work on ten megabytes. Here it is told that it can, if scipy is there
at all, and looks again where such a product is compiled.

    from filters.compiling import njit
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

from numba import njit as njit
from numba import types as types
from numba import vectorize as vectorize
from numba.extending import intrinsic as intrinsic


def _load_numba() -> None:
    """Import the module that asks, with an answer at hand. Numba 0.60 to 0.68 ask in this place; others ask as ever."""
    if "numba.np.arraymath" in sys.modules or importlib.util.find_spec("scipy") is None:
        return
    linalg = importlib.import_module("numba.np.linalg")
    ask = getattr(linalg, "ensure_blas", None)
    if ask is None:
        return
    linalg.ensure_blas = lambda: None  # type: ignore[attr-defined]
    try:
        arraymath = importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = ask  # type: ignore[attr-defined]
    arraymath.ensure_blas = ask  # type: ignore[attr-defined]


_load_numba()
