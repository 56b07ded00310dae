"""The most probable continuations of the open hypotheses, found without log-probabilities of all tokens."""

import math
from typing import Any, NamedTuple

from keras import ops

from keras_ls._backend import row_maximum
from keras_ls.decoding._rows import gather_rows, row_numbers, take_rows
from keras_ls.decoding._top_k import stable_top_k

_FEW = 512  # Continuations per batch element that are compared without blocks.


class Continuations(NamedTuple):
    """The C most probable continuations of each batch element, best first.

    Attributes:
        scores: (B, C) log p relative to that of the best open hypothesis, plus `shift`; −inf where there is none.
        shift: (B,) what the scores are too high by. It is kept apart because it would round their differences.
        parents: (B, C) the hypotheses in [0, W) that they continue.
        tokens: (B, C) the tokens in [0, V) that they add.
        is_nan: (B,) whether a logit of an open hypothesis is NaN or +inf.
    """

    scores: Any
    shift: Any
    parents: Any
    tokens: Any
    is_nan: Any


class _Blocks(NamedTuple):
    """The logits of each hypothesis in M blocks of n neighbours, and the largest of each block.

    Attributes:
        logits: (B·W, M, n).
        highest: (B·W, M).
    """

    logits: Any
    highest: Any


def most_probable(log_probs: Any, logits: Any, count: int, temperature: Any, forbidden: Any = None) -> Continuations:
    """The most probable continuations of the open hypotheses of each batch element.

    The best C continuations lie in the C blocks of highest maxima. So all logits are read only for these maxima and for
    the normaliser, and few are compared.

    Args:
        log_probs: (B, W) log p of the open hypotheses relative to the best, −inf where there is none.
        logits: (B·W, V).
        count: C; fewer are returned where there are only W·V.
        temperature: A number or a scalar tensor.
        forbidden: None, or a token and a scalar tensor that says whether it must not be chosen now.
    """
    width, num_classes = log_probs.shape[1], logits.shape[1]
    count = min(count, width * num_classes)
    logits = ops.cast(ops.stop_gradient(logits), "float32")
    blocks = _in_blocks(logits, _block_size(width, num_classes, count))

    largest = row_maximum(blocks.highest)
    largest = ops.where(largest == -math.inf, 0.0, largest)
    # Shifted before it is divided, so that a low temperature cannot overflow.
    total = ops.sum(ops.exp(_divided(logits - largest, temperature)), axis=-1)
    log_total = ops.reshape(ops.log(ops.where(total == 0, 1.0, total)), (-1, width))  # 0 where all are −inf
    log_total = ops.where(log_probs > -math.inf, log_total, 0.0)
    shift = log_total[:, :1]
    offset = log_probs - (log_total - shift)
    is_nan = ops.any(ops.isnan(log_total), axis=1)

    # The order of a single hypothesis's tokens is that of the logits, which a high temperature would round.
    divisor = temperature if width > 1 else 1.0
    scores, codes = _best(blocks, largest, offset, count, divisor, forbidden)
    scores = scores if width > 1 else _divided(scores, temperature)
    classes = blocks.logits.shape[1] * blocks.logits.shape[2]
    tokens = codes % classes
    # Not `ops.minimum`: under a half-precision floatx that makes floats of them on JAX.
    tokens = ops.where(tokens < num_classes, tokens, num_classes - 1)
    return Continuations(scores, shift[:, 0], codes // classes, tokens, is_nan)


def _best(blocks: _Blocks, largest: Any, offset: Any, count: int, temperature: Any, forbidden: Any) -> tuple[Any, Any]:
    """The best scores (B, C), and parent·(M·n) + token (B, C)."""
    num_blocks, block_size = blocks.logits.shape[1:]
    width = offset.shape[1]
    highest = blocks.highest if forbidden is None else _highest_allowed(blocks, *forbidden)
    largest, offset = (ops.reshape(each, (-1, 1)) for each in (largest, offset))

    scores = ops.reshape(_scores(highest, largest, offset, temperature), (-1, width * num_blocks))
    scores, places = stable_top_k(scores, min(count, width * num_blocks))
    if block_size == 1:
        return scores, places
    # In their old order, so that of equal scores the lowest code is found first.
    places = ops.sort(places, axis=1)
    numbers = row_numbers(places, width * num_blocks)
    members = take_rows(ops.reshape(blocks.logits, (-1, block_size)), numbers)
    if forbidden is not None:
        token, is_forbidden = forbidden
        tokens = ops.expand_dims(places % num_blocks * block_size, -1) + ops.arange(block_size, dtype="int32")
        members = ops.where((tokens == token) & is_forbidden, -math.inf, members)
    rows = numbers // num_blocks
    scores = _scores(members, take_rows(largest, rows), take_rows(offset, rows), temperature)
    scores, chosen = stable_top_k(ops.reshape(scores, (-1, places.shape[1] * block_size)), count)
    return scores, gather_rows(places, chosen // block_size) * block_size + chosen % block_size


def _scores(logits: Any, largest: Any, offset: Any, temperature: Any) -> Any:
    scores = _divided(logits - largest, temperature) + offset
    return ops.where(ops.isnan(scores), -math.inf, scores)


def _divided(values: Any, temperature: Any) -> Any:
    """`values / temperature`, without a pass over them where that is 1."""
    return values if isinstance(temperature, float) and temperature == 1.0 else values / temperature


def _highest_allowed(blocks: _Blocks, token: int, is_forbidden: Any) -> Any:
    """`blocks.highest` without the given token where it is forbidden."""
    num_blocks, block_size = blocks.logits.shape[1:]
    place, member = divmod(token, block_size)
    here = ops.arange(block_size, dtype="int32") == member
    others = row_maximum(ops.where(here & is_forbidden, -math.inf, blocks.logits[:, place]))
    return ops.where(ops.arange(num_blocks, dtype="int32") == place, others, blocks.highest)


def _in_blocks(logits: Any, size: int) -> _Blocks:
    """The last block is filled up with −inf."""
    num_classes = logits.shape[1]
    if size == 1:
        return _Blocks(ops.expand_dims(logits, -1), logits)
    if num_classes % size:
        logits = ops.pad(logits, ((0, 0), (0, -num_classes % size)), constant_values=-math.inf)
    num_blocks = logits.shape[1] // size
    members = ops.reshape(logits, (-1, size))
    return _Blocks(ops.reshape(logits, (-1, num_blocks, size)), ops.reshape(row_maximum(members), (-1, num_blocks)))


def _block_size(width: int, num_classes: int, count: int) -> int:
    """The size with the fewest maxima and members to compare; preferably one that divides V, which saves a copy."""
    if width * num_classes <= _FEW:
        return 1
    best = max(2.0, math.sqrt(width * num_classes / count))
    divisors = (size for size in range(2, min(num_classes, int(8 * best)) + 1) if num_classes % size == 0)
    nearest = min(divisors, key=lambda size: abs(math.log(size / best)), default=0)
    return nearest if nearest >= best / 8 else round(best)
