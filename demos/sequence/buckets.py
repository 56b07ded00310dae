"""Examples of about one length together: few shapes, little padding, batches that depend on the seed and step alone."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from demos.sequence.tokenizers import END, IGNORED, START

NUM_BUCKETS = 6
MULTIPLE = 4  # lengths of buckets are multiples of it


class Bucket(NamedTuple):
    """Examples of about one length, and what they are padded to."""

    rows: np.ndarray
    inputs: int
    tokens: int


def buckets(input_lengths: np.ndarray, num_tokens: np.ndarray, count: int = NUM_BUCKETS) -> list[Bucket]:
    """Sorts examples into at most `count` buckets of about equal size, the shortest first; their lengths never fall.

    `input_lengths` and `num_tokens` (label tokens without start and end) have one number per example.
    """
    order = np.argsort(input_lengths, kind="stable")
    groups = [rows for rows in np.array_split(order, count) if len(rows)]
    inputs = [_rounded_up(input_lengths[rows].max()) for rows in groups]
    tokens = np.maximum.accumulate([_rounded_up(num_tokens[rows].max() + 1) for rows in groups])
    return [Bucket(*bucket) for bucket in zip(groups, inputs, tokens.tolist(), strict=True)]


def shuffled_batches(groups: list[Bucket], batch_size: int, seed: int, epoch: int) -> list[Bucket]:
    """The batches of an epoch; what is left over of a bucket goes with the next longer one."""
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


def token_batches(groups: list[Bucket], batch_tokens: int, seed: int, epoch: int) -> list[Bucket]:
    """The batches of an epoch, in random order: as many examples of a bucket as its padded length allows.

    The last batch of a bucket is filled up with any of it, so that there are few shapes.
    """
    rng = np.random.default_rng([seed, epoch])
    planned = []
    for rows, inputs, tokens in groups:
        size = min(max(1, batch_tokens // max(inputs, tokens)), len(rows))
        order = rng.permutation(rows)
        order = np.concatenate([order, rng.choice(rows, -len(rows) % size, replace=False)])
        planned += [Bucket(part, inputs, tokens) for part in order.reshape(-1, size)]
    return [planned[i] for i in rng.permutation(len(planned))]


def endless(plan: Callable[[int], list[Bucket]], first_step: int) -> Iterator[tuple[int, Bucket]]:
    """Steps from the first on, and the batch of each; `plan` gives those of an epoch, always the same in number."""
    plan = functools.lru_cache(maxsize=1)(plan)
    length = len(plan(0))
    for step in itertools.count(first_step):
        epoch, place = divmod(step, length)
        yield step, plan(epoch)[place]


def sorted_batches(groups: list[Bucket], batch_size: int, most: float = math.inf) -> list[Bucket]:
    """All examples once, the shortest first; the last batch may be smaller.

    Where examples are long there are fewer in a batch, so that it has at most that many inputs or tokens; at least one.
    """
    order = np.concatenate([bucket.rows for bucket in groups])
    shapes = np.concatenate([np.tile([[b.inputs, b.tokens]], (len(b.rows), 1)) for b in groups])
    planned, first = [], 0
    while first < len(order):
        last = min(first + batch_size, len(order))
        while last - first > 1 and (last - first) * shapes[last - 1].max() > most:
            last -= 1
        planned.append(Bucket(order[first:last], *shapes[last - 1].tolist()))
        first = last
    return planned


def teacher_forcing(token_ids: Sequence[np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
    """What a decoder reads, the start token and the ids, and what comes next, the ids, the end token, then −1.

    Both are int32 (B, `width`); what is read past the ids does not matter.
    """
    tokens = np.full((len(token_ids), width), END, "int32")
    labels = np.full((len(token_ids), width), IGNORED, "int32")
    tokens[:, 0] = START
    for i, ids in enumerate(token_ids):
        tokens[i, 1 : len(ids) + 1] = labels[i, : len(ids)] = ids
        labels[i, len(ids)] = END
    return tokens, labels


def filled(x: dict[str, np.ndarray], y: np.ndarray, multiple: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A batch of a multiple of rows: the last one is repeated without labels, so that it counts for nothing."""
    missing = -len(y) % multiple
    if not missing:
        return x, y
    x = {name: np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) for name, rows in x.items()}
    return x, np.concatenate([y, np.full((missing, *y.shape[1:]), IGNORED, y.dtype)])


def padded(token_ids: Sequence[np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids as int32 (B, `width`), with end tokens after them, and how many there are of each, int32 (B,)."""
    rows = np.full((len(token_ids), width), END, "int32")
    for row, ids in zip(rows, token_ids, strict=True):
        row[: len(ids)] = ids
    return rows, np.array([len(ids) for ids in token_ids], "int32")


def _rounded_up(number: int) -> int:
    return int(-(-number // MULTIPLE) * MULTIPLE)
