"""Examples of about one length together, and what a decoder reads and predicts of them."""

import itertools

import numpy as np
import pytest

from demos.sequence.buckets import buckets, sorted_batches, teacher_forcing


@pytest.mark.parametrize("count", [1, 3, 6, 40])
def test_every_example_fits_its_bucket(rng, count):
    frames, tokens = rng.integers(1, 900, 100), rng.integers(1, 60, 100)
    found = buckets(frames, tokens, count)
    assert len(found) <= count
    assert sorted(np.concatenate([bucket.rows for bucket in found])) == list(range(100))
    for bucket in found:
        assert (frames[bucket.rows] <= bucket.inputs).all()
        assert (tokens[bucket.rows] + 1 <= bucket.tokens).all()
        assert bucket.inputs % 4 == bucket.tokens % 4 == 0
    for one, other in itertools.pairwise(found):
        assert frames[one.rows].max() <= frames[other.rows].min()
        assert one.tokens <= other.tokens
    sizes = [len(bucket.rows) for bucket in found]
    assert max(sizes) - min(sizes) <= 1


def test_fewer_examples_than_buckets():
    assert [b.rows.tolist() for b in buckets(np.array([9, 5]), np.array([1, 2]), 6)] == [[1], [0]]


def test_long_examples_come_in_small_batches(rng):
    inputs, tokens = rng.integers(1, 40, 103), rng.integers(1, 40, 103)
    inputs[7], tokens[50] = 900, 300
    groups = buckets(inputs, tokens)
    usual, found = sorted_batches(groups, 10), sorted_batches(groups, 10, 800)
    for planned in (usual, found):
        assert sorted(np.concatenate([batch.rows for batch in planned])) == list(range(103))
        for rows, width, length in planned:
            assert width >= inputs[rows].max()
            assert length > tokens[rows].max()
    assert [len(batch.rows) for batch in usual] == [10] * 10 + [3]
    assert all(len(rows) == 1 or len(rows) * max(sizes) <= 800 for rows, *sizes in found)
    for one, other in zip(sorted_batches(groups[:-1], 10, 800), usual, strict=False):
        if len(one.rows) == 10:
            np.testing.assert_array_equal(one.rows, other.rows)


def test_what_is_read_and_what_comes_next():
    tokens, labels = teacher_forcing([np.array([5, 6, 7]), np.array([], int), np.array([9])], 4)
    assert tokens[0].tolist() == [0, 5, 6, 7]
    assert (tokens[:, 0] == 0).all()
    assert tokens[2, 1] == 9
    assert labels.tolist() == [[5, 6, 7, 1], [1, -1, -1, -1], [9, 1, -1, -1]]
    assert tokens.dtype == labels.dtype == np.int32
