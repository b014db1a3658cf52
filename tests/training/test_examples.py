"""Batches: every row once, twins together, no batch over its size."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fineline.encoding import Window
from fineline_training.examples import Examples, epoch_batches, length_batches

TOKENS = 60
rows = st.lists(st.tuples(st.integers(1, 40), st.integers(-1, 5)), min_size=1, max_size=40)


def window(length: int) -> Window:
    return Window(ids=np.zeros(length, np.int64), types=np.zeros(length, np.int64), start=0, end=length)


def examples(lengths_and_pairs: list[tuple[int, int]]) -> Examples:
    count = len(lengths_and_pairs)
    return Examples(
        windows=[window(length) for length, _ in lengths_and_pairs],
        labels=np.zeros((count, 1), dtype=np.int8),
        any_of=np.zeros((count, 1), dtype=np.bool_),
        pairs=np.array([pair for _, pair in lengths_and_pairs], dtype=np.int64),
    )


def units(made: Examples) -> list[list[int]]:
    pairs = made.pairs.tolist()
    alone = [[row] for row, pair in enumerate(pairs) if pair < 0]
    return alone + [[row for row, other in enumerate(pairs) if other == pair] for pair in set(pairs) - {-1}]


def cost(made: Examples, batch: list[int]) -> int:
    return len(batch) * max(made.lengths[row] for row in batch)


@settings(deadline=None, max_examples=300)
@given(rows)
def test_no_row_is_lost_or_doubled(drawn):
    made = examples(drawn)
    plan = epoch_batches(made, tokens=TOKENS, seed="1")
    assert sorted(row for batch in plan for row in batch) == list(range(len(drawn)))
    assert all(plan)


@settings(deadline=None, max_examples=300)
@given(rows)
def test_twins_share_a_batch_as_long_as_they_fit_one(drawn):
    made = examples(drawn)
    batch_of = {
        row: number for number, batch in enumerate(epoch_batches(made, tokens=TOKENS, seed="1")) for row in batch
    }
    for unit in units(made):
        if cost(made, unit) <= TOKENS:
            assert len({batch_of[row] for row in unit}) == 1


@settings(deadline=None, max_examples=300)
@given(rows)
def test_a_batch_is_over_its_size_only_where_one_row_is(drawn):
    made = examples(drawn)
    for batch in epoch_batches(made, tokens=TOKENS, seed="1"):
        assert cost(made, batch) <= TOKENS or len(batch) == 1


def test_the_seed_decides_the_order_and_nothing_else():
    made = examples([(length % 17 + 1, length % 9 - 1) for length in range(60)])
    first, again, other = (epoch_batches(made, tokens=TOKENS, seed=seed) for seed in ("1", "1", "2"))
    assert first == again
    assert first != other
    assert sorted(map(sorted, first)) == sorted(map(sorted, other))


def test_short_rows_are_not_padded_to_long_ones():
    made = examples([(2, -1)] * 30 + [(30, -1)] * 4)
    plan = epoch_batches(made, tokens=TOKENS, seed="1")
    assert len(plan) == 3
    assert all(len({made.lengths[row] for row in batch}) == 1 for batch in plan)


@given(st.lists(st.integers(1, 300)), st.integers(1, 2000))
def test_batches_hold_each_row_once_within_the_budget(lengths, tokens):
    batches = length_batches(lengths, tokens=tokens)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(batches)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= tokens


@given(st.lists(st.integers(1, 300), min_size=1), st.integers(300, 2000))
def test_batches_are_filled_before_the_next_is_begun(lengths, tokens):
    batches = length_batches(lengths, tokens=tokens)
    for batch, after in itertools.pairwise(batches):
        assert (len(batch) + 1) * lengths[after[0]] > tokens
