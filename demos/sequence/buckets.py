"""Examples of about one length together: few shapes, little padding, batches that depend on the seed and step alone."""

from typing import NamedTuple

import numpy as np

NUM_BUCKETS = 6
MULTIPLE = 4  # of which the lengths of buckets are


class Bucket(NamedTuple):
    """Examples of about one length, and what they are padded to."""

    rows: np.ndarray
    inputs: int
    tokens: int


def buckets(input_lengths: np.ndarray, num_tokens: np.ndarray, count: int = NUM_BUCKETS) -> list[Bucket]:
    """Sorts examples into at most `count` buckets of about as many each, the shortest first.

    Args:
        input_lengths: (N,) lengths of the inputs.
        num_tokens: (N,) label tokens of each, without start and end.
        count: The number of buckets.

    Returns:
        Buckets whose lengths are multiples of 4 and never fall.
    """
    order = np.argsort(input_lengths, kind="stable")
    groups = [rows for rows in np.array_split(order, count) if len(rows)]
    inputs = [_rounded_up(input_lengths[rows].max()) for rows in groups]
    tokens = np.maximum.accumulate([_rounded_up(num_tokens[rows].max() + 1) for rows in groups])
    return [Bucket(*bucket) for bucket in zip(groups, inputs, tokens.tolist(), strict=True)]


def shuffled_batches(groups: list[Bucket], batch_size: int, seed: int, epoch: int) -> list[Bucket]:
    """The batches of an epoch; what a bucket has left over goes with the next longer one."""
    rng = np.random.default_rng([seed, epoch])
    num_rows = sum(len(bucket.rows) for bucket in groups)
    waiting = rng.permutation(num_rows)[: num_rows % batch_size]
    planned, left = [], np.empty(0, int)
    for rows, inputs, tokens in groups:
        pool = np.concatenate([left, rng.permutation(np.setdiff1d(rows, waiting))])
        whole = len(pool) // batch_size * batch_size
        planned += [Bucket(part, inputs, tokens) for part in pool[:whole].reshape(-1, batch_size)]
        left = pool[whole:]
    return [planned[i] for i in rng.permutation(len(planned))]


def sorted_batches(groups: list[Bucket], batch_size: int) -> list[Bucket]:
    """All examples once, the shortest first; the last batch may be smaller."""
    order = np.concatenate([bucket.rows for bucket in groups])
    shapes = np.concatenate([np.tile([[b.inputs, b.tokens]], (len(b.rows), 1)) for b in groups])
    ends = [min(first + batch_size, len(order)) for first in range(0, len(order), batch_size)]
    return [Bucket(order[i * batch_size : last], *shapes[last - 1].tolist()) for i, last in enumerate(ends)]


def _rounded_up(number: int) -> int:
    return int(-(-number // MULTIPLE) * MULTIPLE)
