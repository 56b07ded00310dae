"""The hypotheses of a beam search, open and complete, and what one step makes of them."""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_ls.decoding._continuations import Continuations, most_probable
from keras_ls.decoding._rows import gather_rows, row_numbers
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
        last: (B, W) the tokens that the next step starts from.
    """

    log_probs: Any
    best: Any
    rounding: Any
    last: Any


class Finished(NamedTuple):
    """The R best complete hypotheses of each batch element, best first; −inf, length 0 where there is none.

    `failed` (B,) marks elements whose model gave NaN.
    """

    scores: Any
    log_probs: Any
    lengths: Any
    failed: Any


class Hypotheses(NamedTuple):
    """All hypotheses of a search, and their tokens (B, R + W, max_length): those of the finished ones come first.

    Past the end of a sequence there is `end_token`.
    """

    live: Live
    finished: Finished
    tokens: Any


def start(settings: Settings, start_token: int) -> Hypotheses:
    """One open hypothesis per element, without tokens; nothing finished."""
    size, width, results = settings.batch_size, settings.beam_width, settings.num_results
    first = ops.broadcast_to(ops.arange(width, dtype="int32") == 0, (size, width))
    none = ops.full((size, results), -math.inf, dtype="float32")
    zero = ops.zeros((size,), dtype="float32")
    last = ops.full((size, width), start_token, dtype="int32")
    lengths = ops.zeros((size, results), dtype="int32")
    return Hypotheses(
        Live(ops.where(first, zero[:, None], -math.inf), zero, zero, last),
        Finished(none, none, lengths, ops.zeros((size,), dtype="bool")),
        ops.full((size, results + width, settings.max_length), settings.end_token, dtype="int32"),
    )


def is_open(live: Live) -> Any:
    """Whether any element has an open hypothesis."""
    return ops.any(live.log_probs > -math.inf)


def advance(settings: Settings, step: Any, hypotheses: Hypotheses, logits: Any) -> tuple[Hypotheses, Any]:
    """Extends the open hypotheses by one token; also returns the rows (B·W,) that they continue, None for width 1."""
    width, results = settings.beam_width, settings.num_results
    live, finished, _ = hypotheses
    logits = ops.reshape(logits, (settings.batch_size * width, logits.shape[1]))
    forbidden = None if settings.min_length <= 1 else (settings.end_token, step < settings.min_length - 1)
    # One less than twice the width: with width 1 the end token must be the most probable to end the search.
    new = most_probable(live.log_probs, logits, 2 * width - 1, settings.temperature, forbidden)

    is_last, divisor = step == settings.max_length - 1, settings.divisors[-1]
    if not isinstance(settings.limits, int):
        is_last = ops.expand_dims(step >= settings.limits - 1, -1)
        divisor = ops.take(settings.divisors, settings.limits - 1)
    is_complete = (new.tokens == settings.end_token) | is_last

    complete = ops.where(is_complete, new.scores - ops.expand_dims(new.shift, -1), -math.inf)
    scores, log_probs, best = _compete(settings, step, live, finished, complete)
    still_open, continued = stable_top_k(ops.where(is_complete, -math.inf, new.scores), width)
    chosen = ops.concatenate([best, results + continued], axis=1)
    tokens, sources, last, lengths = _extend(step, hypotheses, new, chosen, settings.end_token)

    finished = Finished(scores, log_probs, lengths[:, :results], finished.failed | new.is_nan)
    live = _opened(live, still_open, new.shift, last[:, results:])
    is_done = finished.failed | (live.best / divisor <= finished.scores[:, -1])
    live = live._replace(log_probs=ops.where(ops.expand_dims(is_done, -1), -math.inf, live.log_probs))
    rows = ops.reshape(row_numbers(sources[:, results:] - results, width), (-1,)) if width > 1 else None
    return Hypotheses(live, finished, tokens), rows


def _compete(settings: Settings, step, live: Live, finished: Finished, log_probs) -> tuple[Any, Any, Any]:
    """The R best of the finished hypotheses and the new ones (B, C), behind them; the earlier of equals wins.

    `log_probs` are relative to `live.best`. Returns scores, log p and places among R + C.
    """
    log_probs = ops.expand_dims(live.best, -1) + (ops.expand_dims(live.rounding, -1) + log_probs)
    scores = ops.concatenate([finished.scores, log_probs / ops.take(settings.divisors, step)], axis=1)
    scores, chosen = stable_top_k(scores, settings.num_results)
    return scores, gather_rows(ops.concatenate([finished.log_probs, log_probs], axis=1), chosen), chosen


def _extend(step, hypotheses: Hypotheses, new: Continuations, chosen, end_token: int) -> tuple[Any, ...]:
    """The sequences chosen among the finished ones and the continuations, R + C; all (B, R + W).

    Returns their tokens, the hypotheses that they continue, the tokens that they add, and their lengths.
    """
    # To a finished one the end token is added, past its end, where it is already.
    lengths = hypotheses.finished.lengths
    results = lengths.shape[1]
    itself = ops.zeros_like(lengths) + ops.arange(results, dtype="int32")
    earlier = ops.stack([itself, ops.full_like(itself, end_token), lengths], axis=-1)
    later = ops.stack([results + new.parents, new.tokens, ops.zeros_like(new.tokens) + (step + 1)], axis=-1)
    chosen = gather_rows(ops.concatenate([earlier, later], axis=1), chosen)
    sources, last, lengths = ops.unstack(chosen, 3, axis=-1)

    tokens = gather_rows(hypotheses.tokens, sources)
    here = ops.arange(tokens.shape[2], dtype="int32") == step
    return ops.where(here, ops.expand_dims(last, -1), tokens), sources, last, lengths


def _opened(live: Live, scores, shift, last) -> Live:
    """The open hypotheses of the given scores, which are log p relative to `live.best`, plus `shift`."""
    by = ops.where(scores[:, 0] > -math.inf, scores[:, 0] - shift, 0.0)
    best, rounding = _compensated_sum(live.best, live.rounding + by)
    return Live(scores - ops.where(scores[:, :1] > -math.inf, scores[:, :1], 0.0), best, rounding, last)


def _compensated_sum(a, b):
    """The sum, and what rounding took from it: for |a| above |b|, or nearly so."""
    total = a + b
    return total, b - (total - a)
