"""A column of strings as the kernels see it: one buffer of UTF-8 bytes and one array of offsets.

    texts   ["ab", None, "c"]
    offsets [0, 2, 2, 3]        (rows + 1,) int64, starts at offsets[0], not always at 0
    data    b"abc"              uint8, shared with Arrow: nothing is copied for large_string input

A null is an empty text. Arrow does not check that a string column holds valid UTF-8; ingest does, once
(``curate.ingest``), and kernels bound every decode by the end of the document besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Offsets = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Texts: TypeAlias = pa.Array | pa.ChunkedArray


def as_large_string(texts: Texts) -> pa.LargeStringArray:
    """One contiguous large_string array; no copy when the column is that already."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.chunk(0) if texts.num_chunks == 1 else texts.combine_chunks()
        if isinstance(texts, pa.ChunkedArray):  # pyarrow keeps an empty ChunkedArray chunked
            texts = pa.array([], pa.large_string())
    if not pa.types.is_large_string(texts.type):
        texts = texts.cast(pa.large_string())
    return cast(pa.LargeStringArray, texts)


def string_buffers(texts: Texts) -> tuple[Offsets, Bytes]:
    """Offsets ``(rows + 1,) int64`` and the UTF-8 bytes of a string column.

    >>> offsets, data = string_buffers(pa.array(["ab", None, "c"]))
    >>> offsets.tolist(), bytes(data[:3])
    ([0, 2, 2, 3], b'abc')
    """
    column = as_large_string(texts)
    if column.null_count:  # Arrow lets the slot of a null hold bytes
        column = pc.fill_null(column, "")
    _, offset_buffer, data_buffer = column.buffers()
    offsets, data = np.zeros(1, np.int64), np.zeros(1, np.uint8)
    if len(column) and offset_buffer is not None:
        offsets = np.frombuffer(offset_buffer, np.int64)[column.offset : column.offset + len(column) + 1]
        if data_buffer is not None and data_buffer.size:
            data = np.frombuffer(data_buffer, np.uint8)
    for array in (
        offsets,
        data,
    ):  # mapped files are read-only, other buffers not: kernels would be compiled for both
        array.flags.writeable = False
    return offsets, data


def text_sizes(texts: pa.Array) -> npt.NDArray[np.int64]:
    """Bytes of each text, ``(rows,) int64``; of a null, those that Arrow keeps for it, usually none.

    >>> text_sizes(pa.array(["ab", "é", ""])).tolist()
    [2, 2, 0]
    """
    column = as_large_string(texts)
    if not len(column):
        return np.zeros(0, np.int64)
    offsets = np.frombuffer(column.buffers()[1], np.int64)
    return np.diff(offsets[column.offset : column.offset + len(column) + 1])


def as_arrow(values: npt.NDArray) -> pa.Array:
    """A one-dimensional array of numbers or truth values as Arrow; numbers are shared and not copied.

    ``pyarrow.array`` does the same, but imports pandas first, where it is installed: a fifth of a second a process.

    >>> as_arrow(np.array([1, 2])).type, as_arrow(np.array([True, False, True])).to_pylist()
    (DataType(int64), [True, False, True])
    """
    values = np.ascontiguousarray(values)
    if values.dtype == np.bool_:
        packed = np.packbits(values, bitorder="little")
        return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(packed)])
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def as_numpy(column: pa.Array | pa.ChunkedArray) -> npt.NDArray:
    """A column of numbers or truth values without nulls as an array; numbers of one chunk are shared. Without pandas, too.

    >>> as_numpy(pa.chunked_array([[1, 2], [3]])).tolist(), as_numpy(pa.array([True, False])[1:]).tolist()
    ([1, 2, 3], [False])
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    if column.null_count:
        raise ValueError(f"{column.null_count} nulls in a column of numbers")
    kind = np.dtype(column.type.to_pandas_dtype())
    arrays = []
    for chunk in chunks:
        if len(chunk) and kind == np.bool_:
            packed = np.frombuffer(chunk.buffers()[1], np.uint8)
            bits = np.unpackbits(packed, count=chunk.offset + len(chunk), bitorder="little")
            arrays.append(bits[chunk.offset :].view(np.bool_))
        elif len(chunk):
            start = chunk.offset * kind.itemsize
            arrays.append(np.frombuffer(chunk.buffers()[1], kind, count=len(chunk), offset=start))
    return arrays[0] if len(arrays) == 1 else np.concatenate([np.zeros(0, kind), *arrays])


def as_strings(values: Sequence[str]) -> pa.StringArray:
    """A few strings as Arrow, without pandas, too.

    >>> as_strings(["a", "bc"]).to_pylist()
    ['a', 'bc']
    """
    encoded = [value.encode() for value in values]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))
