import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.errors import DataError
from mixtures.shards import read_shards
from mixtures.train import read_batches

NAMES = ("tokens", "loss", "segments", "positions")


def numbered(n_rows, chunk_rows):
    """Rows of four tokens that say which row they are, in record batches of ``chunk_rows``."""
    table = pa.table(
        {
            "tokens": pa.array([[1, row, row, 2] for row in range(n_rows)], pa.list_(pa.int32())),
            "loss": pa.array([[0.0, 0.0, 0.5, 1.0]] * n_rows, pa.list_(pa.float32())),
            "segments": pa.array([[1, 1, 1, 1]] * n_rows, pa.list_(pa.int32())),
            "positions": pa.array([[0, 1, 2, 3]] * n_rows, pa.list_(pa.int32())),
        }
    )
    return pa.Table.from_batches(table.to_batches(max_chunksize=chunk_rows))


def rows_of(batches):
    return [row for batch in batches for row in batch.tokens[:, 1].tolist()]


def changed(packs, name, row, place, value):
    """The packs with one value replaced."""
    values = packs.column(name).to_pylist()
    values[row][place] = value
    column = pa.array(values, packs.schema.field(name).type)
    return packs.set_column(packs.column_names.index(name), name, column)


@settings(deadline=None)  # the first example pays for loading
@given(st.integers(1, 30), st.integers(1, 7), st.integers(1, 8), st.integers(1, 3), st.integers(0, 3))
def test_batches_hold_every_row_in_order_however_the_table_is_chunked(n_rows, chunk, per_step, epochs, spare):
    steps = n_rows * epochs // per_step
    if steps == 0:
        return
    packs = numbered(n_rows, chunk)
    # what does not fill a row more is left out: 4 x rows + 0..3 tokens make the same batches
    found = list(
        read_batches(packs, tokens_per_step=4 * per_step + spare, steps=steps, vocab_size=99, epochs=epochs)
    )
    assert [batch.tokens.shape for batch in found] == [(per_step, 4)] * steps
    assert rows_of(found) == [i % n_rows for i in range(steps * per_step)]


def test_a_second_epoch_may_begin_inside_a_batch():
    found = read_batches(numbered(5, 2), tokens_per_step=12, steps=3, vocab_size=99, epochs=2)
    assert [batch.tokens[:, 1].tolist() for batch in found] == [[0, 1, 2], [3, 4, 0], [1, 2, 3]]


def test_a_batch_larger_than_the_packs_goes_round_them_more_than_once():
    found = next(read_batches(numbered(2, 2), tokens_per_step=20, steps=1, vocab_size=99, epochs=3))
    assert found.tokens[:, 1].tolist() == [0, 1, 0, 1, 0]


def test_tensors_are_views_of_the_mapped_file(tmp_path, make):
    make["write"](tmp_path / "packs", numbered(8, 8))
    table = read_shards(tmp_path / "packs")
    batch = list(read_batches(table, tokens_per_step=8, steps=3, vocab_size=99))[2]
    for name in NAMES:
        start = table.column(name).chunk(0).values.buffers()[1].address
        assert getattr(batch, name).data_ptr() == start + 4 * 4 * 4  # four rows of four values of four bytes
    assert batch.tokens.dtype == torch.int32 and batch.loss.dtype == torch.float32


def test_a_directory_of_several_shards_reads_like_its_table(mixture, packs):
    batches = list(read_batches(mixture / "packs", tokens_per_step=48 * 4, steps=2, vocab_size=97))
    for name in NAMES:
        joined = np.concatenate([getattr(batch, name).numpy() for batch in batches])
        assert joined.tolist() == packs.column(name).to_pylist()


def test_too_few_rows_are_an_error_and_never_a_silent_second_epoch():
    with pytest.raises(
        DataError, match=r"5 rows of 4 tokens give 2 steps of 2 rows in 1 epochs; the recipe asks for 3"
    ):
        read_batches(numbered(5, 5), tokens_per_step=8, steps=3, vocab_size=99)
    assert len(list(read_batches(numbered(5, 5), tokens_per_step=8, steps=2, vocab_size=99))) == 2


def test_a_step_shorter_than_a_row_is_an_error():
    with pytest.raises(
        DataError, match=r"rows are 4 tokens long, a step is 3; allowed: tokens_per_step of 4"
    ):
        read_batches(numbered(5, 5), tokens_per_step=3, steps=1, vocab_size=99)


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("tokens", 3, 97, r"position 3: its token id is outside the vocabulary of 97"),
        ("tokens", 0, -1, r"position 0: its token id is outside the vocabulary of 97"),
        ("segments", 0, 2, r"position 0: its segment is out of order; allowed: 1, 2, 3"),
        ("segments", 30, 9, r"position 30: its segment is out of order"),
        (
            "segments",
            10,
            0,
            r"position 11: its segment is out of order",
        ),  # padding inside, then segment 3 again
        ("segments", 47, 1, r"position 47: its segment is out of order"),  # an example comes back
        ("segments", 47, 4, r"position 47: its segment is out of order"),  # an example after padding
        (
            "positions",
            6,
            5,
            r"position 6: its position does not count from 0",
        ),  # the first token of segment 3
        ("positions", 20, 0, r"position 20: its position does not count from 0"),
        ("loss", 4, -0.5, r"position 4: its loss weight is not a finite number of 0 or more"),
        ("loss", 4, float("nan"), r"position 4: its loss weight is not a finite number"),
        ("loss", 4, float("inf"), r"position 4: its loss weight is not a finite number"),
        ("loss", 6, 1.0, r"position 6: it has a loss weight, but is padding or the first of its segment"),
        ("loss", 47, 1.0, r"position 47: it has a loss weight, but is padding"),
    ],
)
def test_a_row_that_would_train_wrongly_is_refused_by_its_place(packs, name, place, value, message):
    broken = changed(pa.concat_tables([packs.slice(1, 1), packs.slice(0, 1)]), name, 1, place, value)
    batches = read_batches(broken, tokens_per_step=48, steps=2, vocab_size=97)
    next(batches)  # the first row is sound
    with pytest.raises(DataError, match=r"packs: row 1, " + message):
        next(batches)


def test_the_sound_rows_that_the_broken_ones_are_made_of_pass(packs):
    assert len(list(read_batches(packs, tokens_per_step=48, steps=8, vocab_size=97))) == 8


def test_positions_of_padding_are_free(packs):
    free = changed(packs.slice(0, 1), "positions", 0, 47, 15)
    assert next(read_batches(free, tokens_per_step=48, steps=1, vocab_size=97)).positions[0, 47] == 15


def test_rows_of_unequal_length_are_refused():
    table = numbered(3, 3)
    longer = pa.array([[0.0] * 4, [0.0] * 4, [0.0] * 5], pa.list_(pa.float32()))
    with pytest.raises(DataError, match=r"row 2, column loss: 5 values; allowed: 4, as in row 0"):
        read_batches(table.set_column(1, "loss", longer), tokens_per_step=8, steps=1, vocab_size=99)


def test_packs_without_rows_or_columns_or_of_other_types_are_refused():
    table = numbered(3, 3)
    wide = table.column("tokens").cast(pa.list_(pa.int64()))
    for broken, message in [
        (table.slice(0, 0), r"no rows; allowed: at least one"),
        (table.drop_columns(["loss"]), r"column loss: no such column; allowed: list<item: float>"),
        (
            table.set_column(0, "tokens", wide),
            r"column tokens: list<item: int64>; allowed: list<item: int32>",
        ),
        (
            table.set_column(0, "tokens", pa.array([[1], None, [1]], wide.type).cast(pa.list_(pa.int32()))),
            "1 nulls",
        ),
    ]:
        with pytest.raises(DataError, match=message):
            read_batches(broken, tokens_per_step=8, steps=1, vocab_size=99)


def test_a_directory_that_is_no_finished_one_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"nothing: no state\.json"):
        read_batches(tmp_path / "nothing", tokens_per_step=8, steps=1, vocab_size=99)
