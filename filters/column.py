"""A column of strings as the kernels see it: one buffer of UTF-8 bytes and one array of offsets.

    texts   ["ab", None, "c"]
    offsets [0, 2, 2, 3]        (rows + 1,) int64, starts at offsets[0], not always at 0
    data    b"abc"              uint8, shared with Arrow: nothing is copied for large_string input

A null is an empty text. Arrow does not check that a string column holds valid UTF-8; ingest does, once
(``curate.ingest``), and kernels bound every decode by the end of the document besides.
"""

from __future__ import annotations

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
