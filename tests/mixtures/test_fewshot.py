from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtures.fewshot import ExemplarPool, question_key

tasks = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 6)), min_size=1, max_size=30)


def pool_of(rows, seed=0, leaf="nli"):
    sizes, keys = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return ExemplarPool(sizes, keys, seed=seed, leaf=leaf)


@given(tasks, st.integers(0, 5), st.integers(0, 8), st.integers(-5, 300))
def test_no_exemplar_is_the_query_or_asks_what_it_or_another_exemplar_asks(rows, epoch, shots, room):
    pool = pool_of(rows)
    for row in range(len(rows)):
        drawn = pool.draw(row, epoch, shots=shots, room=room)
        assert row not in drawn
        keys = [rows[e][1] for e in drawn]
        assert rows[row][1] not in keys
        assert len(set(keys)) == len(keys) <= shots


@given(tasks, st.integers(0, 8), st.integers(0, 300))
def test_exemplars_fit_the_room_and_their_number_is_decided_before_they_are_drawn(rows, shots, room):
    # The number of shots from the definition: at least half of the rows have at most room / k tokens.
    fitting = [k for k in range(1, shots + 1) if sum(size <= room // k for size, _ in rows) * 2 >= len(rows)]
    decided = max(fitting, default=0)
    for row in range(len(rows)):
        drawn = pool_of(rows).draw(row, 0, shots=shots, room=room)
        assert sum(rows[e][0] for e in drawn) <= room
        assert len(drawn) <= decided


def test_draws_depend_on_seed_leaf_row_and_epoch_and_on_nothing_else():
    rows = [(5, i) for i in range(200)]
    first = pool_of(rows).draw(7, 0, shots=3, room=100)
    assert len(first) == 3
    used = pool_of(rows)
    used.draw(3, 1, shots=5, room=100)
    assert used.draw(7, 0, shots=3, room=100) == first
    others = [
        pool_of(rows, seed=1).draw(7, 0, shots=3, room=100),
        pool_of(rows, leaf="qa").draw(7, 0, shots=3, room=100),
        pool_of(rows).draw(8, 0, shots=3, room=100),
        pool_of(rows).draw(7, 1, shots=3, room=100),
    ]
    assert first not in others


def test_every_other_row_is_drawn_equally_often():
    pool = pool_of([(5, i) for i in range(20)])
    counts = Counter(e for epoch in range(3000) for e in pool.draw(4, epoch, shots=2, room=100))
    assert sorted(counts) == [i for i in range(20) if i != 4]
    expected = 6000 / 19
    assert (
        sum((count - expected) ** 2 / expected for count in counts.values()) < 42.3
    )  # chi-square 18, p = 0.001


def test_a_long_question_gets_fewer_shots_rather_than_short_exemplars():
    rows = [(10, 2 * i) for i in range(10)] + [(30, 2 * i + 1) for i in range(10)]
    pool = pool_of(rows)
    assert len(pool.draw(0, 0, shots=3, room=90)) == 3
    # room for three needs rows of 29 / 3 = 9: none; for two of 14: the short half
    short = pool.draw(0, 0, shots=3, room=29)
    assert len(short) == 2 and all(rows[e][0] == 10 for e in short)
    assert pool.draw(0, 0, shots=3, room=9) == []


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("What is 2 + 3?", "what is  2+3", True),
        ("Straße", "STRASSE", True),
        ("Is it so?\n- yes\n- no", "is it so? yes, no", True),
        ("What is 2 + 3?", "What is 2 + 4?", False),
        ("猫はどこ？", "猫はどこ", True),
        ("猫はどこ", "犬はどこ", False),
        (":-)", ":-(", False),
        ("", "   ", True),
    ],
)
def test_questions_are_the_same_when_their_words_are(a, b, same):
    assert (question_key(a) == question_key(b)) is same
    assert 0 <= question_key(a) < 2**63
