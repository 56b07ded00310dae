"""The hypotheses of a beam search, open and complete, and what one step makes of them."""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_ls.decoding._top_k import stable_top_k


@dataclasses.dataclass(frozen=True)
class Settings:
    """The checked arguments of a search; `limits` is `max_length`, or a tensor (B,) of a limit per element."""

    batch_size: Any
    end_token: int
    max_length: int
    limits: Any
    min_length: int
    beam_width: int
    temperature: Any
    length_penalty: float
    num_results: int

    @property
    def divisors(self) -> np.ndarray:
        """length**length_penalty for the lengths from 1 to `max_length`, within float32."""
        with np.errstate(over="ignore"):
            powers = np.arange(1, self.max_length + 1, dtype="float64") ** self.length_penalty
        return np.minimum(powers, np.finfo("float32").max).astype("float32")


class Live(NamedTuple):
    """The open hypotheses of each batch element, most probable first.

    Attributes:
        log_probs: (B, W) log p less that of the best, so that long sequences keep their differences; −inf where there
            is no hypothesis.
        best: (B,) log p of the best, finite even where none is left.
        rounding: (B,) what `best` lost by rounding.
        tokens: (B, W, max_length), `end_token` where there is none yet.
        last: (B, W) the tokens that the next step starts from.
    """

    log_probs: Any
    best: Any
    rounding: Any
    tokens: Any
    last: Any


class Finished(NamedTuple):
    """The R best complete hypotheses of each batch element, best first; −inf, length 0 where there is none.

    `failed` (B,) marks elements whose model gave NaN.
    """

    scores: Any
    log_probs: Any
    lengths: Any
    tokens: Any
    failed: Any


def start(settings: Settings, start_token: int) -> tuple[Live, Finished]:
    """One open hypothesis per element, without tokens; nothing finished."""
    size, width, results = settings.batch_size, settings.beam_width, settings.num_results

    def tokens(count):
        return ops.full((size, count, settings.max_length), settings.end_token, dtype="int32")

    first = ops.broadcast_to(ops.arange(width) == 0, (size, width))
    none = ops.full((size, results), -math.inf, dtype="float32")
    zero = ops.zeros((size,), dtype="float32")
    last = ops.full((size, width), start_token, dtype="int32")
    live = Live(ops.where(first, zero[:, None], -math.inf), zero, zero, tokens(width), last)
    lengths = ops.zeros((size, results), dtype="int32")
    return live, Finished(none, none, lengths, tokens(results), ops.zeros((size,), dtype="bool"))


def is_open(live: Live) -> Any:
    """Whether any element has an open hypothesis."""
    return ops.any(live.log_probs > -math.inf)


def advance(settings: Settings, step: Any, live: Live, finished: Finished, logits: Any) -> tuple[Live, Finished, Any]:
    """Extends the open hypotheses by one token; also returns the rows (B·W,) that they continue."""
    width, num_classes = settings.beam_width, logits.shape[-1]
    totals, codes, is_nan = _continuations(settings, step, live, logits)
    finished = finished._replace(failed=finished.failed | is_nan)
    is_last, divisor = step == settings.max_length - 1, settings.divisors[-1]
    if not isinstance(settings.limits, int):
        is_last = ops.expand_dims(step >= settings.limits - 1, -1)
        divisor = ops.take(settings.divisors, settings.limits - 1)
    is_complete = (codes % num_classes == settings.end_token) | is_last

    complete = ops.where(is_complete, totals, -math.inf)
    finished = _finish(settings, step, live, finished, complete, codes // num_classes, codes % num_classes)
    totals, chosen = stable_top_k(ops.where(is_complete, -math.inf, totals), width)
    codes = _gathered(codes, chosen)
    parents, tokens = codes // num_classes, codes % num_classes
    live = _extend(step, live, totals, parents, tokens)

    is_done = finished.failed | (live.best / divisor <= finished.scores[:, -1])
    live = live._replace(log_probs=ops.where(ops.expand_dims(is_done, -1), -math.inf, live.log_probs))
    return live, finished, _row_numbers(parents, width)


def _continuations(settings: Settings, step: Any, live: Live, logits: Any) -> tuple[Any, Any, Any]:
    """The 2W − 1 most probable continuations of each element.

    The best tokens of each hypothesis are compared as logits, which saves a pass over all of them for each operation
    that makes log-probabilities.

    Returns:
        Their log p, relative to `live.best` (B, C); parent·V + token (B, C); and whether a logit of an open hypothesis
        is NaN or +inf (B,).
    """
    size, width, num_classes = settings.batch_size, settings.beam_width, logits.shape[-1]
    logits = ops.cast(ops.stop_gradient(logits), "float32")
    # One less than twice the width: with width 1 the end token must be the most probable to end the search.
    count = min(2 * width - 1, num_classes)
    highest, tokens = stable_top_k(_allowed(settings, step, logits), count)

    largest = ops.max(logits, axis=-1, keepdims=True)
    largest = ops.where(largest == -math.inf, 0.0, largest)
    # Shifted before it is divided, so that a low temperature cannot overflow.
    total = ops.sum(ops.exp((logits - largest) / settings.temperature), axis=-1, keepdims=True)
    log_total = ops.log(ops.where(total == 0, 1.0, total))  # 0 where all are −inf
    log_probs = ops.reshape((highest - largest) / settings.temperature - log_total, (size, width, count))

    parents_open = live.log_probs > -math.inf
    extended = ops.expand_dims(live.log_probs, -1) + log_probs
    extended = ops.where(ops.isnan(extended), -math.inf, extended)
    codes = (
        ops.reshape(tokens, (size, width, count)) + ops.expand_dims(ops.arange(width, dtype="int32"), -1) * num_classes
    )
    extended, codes = (ops.reshape(each, (size, width * count)) for each in (extended, codes))
    totals, places = stable_top_k(extended, min(2 * width - 1, width * count))
    is_nan = ops.any(ops.isnan(ops.reshape(log_total, (size, width))) & parents_open, axis=1)
    return totals, ops.take_along_axis(codes, places, axis=1), is_nan


def _allowed(settings: Settings, step: Any, logits: Any) -> Any:
    """The logits, without that of the end token as long as a sequence would be shorter than `min_length`."""
    if settings.min_length <= 1:
        return logits
    is_end = ops.arange(logits.shape[-1], dtype="int32") == settings.end_token
    return ops.where(is_end & (step < settings.min_length - 1), -math.inf, logits)


def _finish(settings: Settings, step, live: Live, finished: Finished, log_probs, parents, tokens) -> Finished:
    """Lets new complete hypotheses (B, C) compete with the earlier ones, which win where they are equal."""
    results = settings.num_results
    log_probs = ops.expand_dims(live.best, -1) + (ops.expand_dims(live.rounding, -1) + log_probs)
    log_probs = ops.concatenate([finished.log_probs, log_probs], axis=1)
    scores = log_probs[:, results:] / ops.take(settings.divisors, step)
    scores, chosen = stable_top_k(ops.concatenate([finished.scores, scores], axis=1), results)

    # What to continue, by what token, to what length. Past the end of an earlier one there is the end token already:
    # writing it again changes nothing.
    itself = ops.zeros_like(finished.lengths) + ops.arange(results, dtype="int32")
    earlier = ops.stack([itself, ops.full_like(itself, settings.end_token), finished.lengths], axis=-1)
    new = ops.stack([results + parents, tokens, ops.zeros_like(tokens) + (step + 1)], axis=-1)
    sources, last, lengths = ops.unstack(_gathered(ops.concatenate([earlier, new], axis=1), chosen), 3, axis=-1)
    sequences = _gathered(ops.concatenate([finished.tokens, live.tokens], axis=1), sources)
    return Finished(scores, _gathered(log_probs, chosen), lengths, _written(sequences, step, last), finished.failed)


def _extend(step, live: Live, log_probs, parents, tokens) -> Live:
    """The open hypotheses that continue `parents` (B, W) by `tokens`, `log_probs` being relative to `live.best`."""
    by = ops.where(log_probs[:, 0] > -math.inf, log_probs[:, 0], 0.0)
    best, rounding = _compensated_sum(live.best, live.rounding + by)
    return Live(
        log_probs - ops.expand_dims(by, -1),
        best,
        rounding,
        _written(_gathered(live.tokens, parents), step, tokens),
        tokens,
    )


def _compensated_sum(a, b):
    """The sum, and what rounding took from it: for |a| above |b|, or nearly so."""
    total = a + b
    return total, b - (total - a)


def _row_numbers(places, count: int):
    """(B, n) places among `count` to their rows (B·n,) where the batch lies flat."""
    first = ops.arange(ops.shape(places)[0], dtype="int32") * count
    return ops.reshape(places + ops.expand_dims(first, -1), (-1,))


def _gathered(values, places):
    """(B, M, …) and (B, n) places among M to (B, n, …)."""
    size, count = places.shape[0], places.shape[1]
    rest = tuple(values.shape[2:])
    rows = ops.take(ops.reshape(values, (-1, *rest)), _row_numbers(places, values.shape[1]), axis=0)
    return ops.reshape(rows, (-1 if size is None else size, count, *rest))


def _written(sequences, step, tokens):
    """(B, n, L) sequences with `tokens` (B, n) at place `step`."""
    here = ops.arange(sequences.shape[2], dtype="int32") == step
    return ops.where(here, ops.expand_dims(tokens, -1), sequences)
