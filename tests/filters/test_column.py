"""Columns as kernels see them, and arrays as Arrow sees them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from filters.column import as_arrow, as_numpy, as_strings, text_sizes

KINDS = st.sampled_from([np.int8, np.int32, np.int64, np.uint8, np.uint64, np.float64, np.bool_])


@given(values=KINDS.flatmap(lambda kind: arrays.arrays(kind, st.integers(0, 40))), start=st.integers(0, 9))
def test_arrays_go_to_arrow_and_come_back(values: npt.NDArray, start: int) -> None:
    column = as_arrow(values)
    assert column.equals(pa.array(values))
    np.testing.assert_array_equal(as_numpy(column), values)
    np.testing.assert_array_equal(as_numpy(column[start:]), values[start:])
    chunked = pa.chunked_array([column[:start], column[start:]], column.type)
    np.testing.assert_array_equal(as_numpy(chunked), values)


def test_numbers_are_shared_and_not_copied() -> None:
    values = np.arange(5)
    assert as_arrow(values).buffers()[1].address == values.ctypes.data
    assert as_numpy(as_arrow(values)).ctypes.data == values.ctypes.data


def test_a_null_is_no_number() -> None:
    with pytest.raises(ValueError, match="1 nulls in a column of numbers"):
        as_numpy(pa.array([1, None]))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_strings_are_those_of_arrow_and_sizes_those_of_utf8(values: list[str]) -> None:
    column = as_strings(values)
    assert column.equals(pa.array(values, pa.string()))
    assert text_sizes(column).tolist() == [len(value.encode()) for value in values]
