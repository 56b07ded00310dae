"""Batched beam search over any step function, compiled as one loop."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_ls._backend import is_concrete
from keras_ls._checks import LARGEST_COUNT, check_count, check_non_negative, check_positive, shown
from keras_ls._labels import numbers_to_tensor
from keras_ls._ranking import stable_top_k
from keras_ls._states import pack_state, reorder_state, repeat_state


class BeamSearchResult(NamedTuple):
    """The best hypotheses of each batch element, best first.

    Attributes:
        tokens: int32 (B, R, max_length), without the start token; `end_token` at and past a hypothesis's end.
        lengths: int32 (B, R), in tokens, the end token included.
        scores: float32 (B, R), log p / length**length_penalty.
        log_probs: float32 (B, R), log p in nats.
    """

    tokens: Any
    lengths: Any
    scores: Any
    log_probs: Any

    def __repr__(self) -> str:
        """The fields' shapes and, where it can be read, the best score of the batch."""
        parts = [
            f"{name}: {tuple(field.shape) if hasattr(field, 'shape') else shown(field)}"
            for name, field in zip(self._fields, self, strict=True)
        ]
        if isinstance(self.scores, np.ndarray) or (ops.is_tensor(self.scores) and is_concrete(self.scores)):
            scores = ops.convert_to_numpy(self.scores)
            parts += [f"best score: {scores.max():.4g}"] if scores.size else []
        return f"BeamSearchResult({', '.join(parts)})"


def beam_search(
    step_fn: Callable[[Any, Any], tuple[Any, Any]],
    initial_state: Any,
    batch_size: Any,
    start_token: int,
    end_token: int,
    max_length: int,
    beam_width: int = 4,
    temperature: float = 1.0,
    length_penalty: float = 0.0,
    num_results: int = 1,
) -> BeamSearchResult:
    """Finds the token sequences of highest ``log p / length**length_penalty`` with beams of W open hypotheses.

    p is the product of ``softmax(logits / temperature)`` along the sequence. At every step the 2W − 1 most probable
    continuations of an element's open hypotheses are considered: those that end (by the end token, or at
    `max_length`) compete for the results, the W most probable others stay open. So width 1 is greedy search, and a
    width of (V − 1)**(max_length − 1), at least 2, finds the best of all sequences. An element is done as soon as
    no open hypothesis can reach its results: log p never rises, so that ``log p / max_length**length_penalty`` bounds
    what an open one can score. Its results do not depend on the rest of the batch.

    Ties are broken in favour of the shorter sequence, then of the hypothesis that ranked higher before it was extended,
    then of the lowest token. Rounding of long sums does not build up: log p is summed with compensation, and
    open hypotheses are compared by their differences.

    The search is one `keras.ops.while_loop` without Python per step inside `tf.function` (``jit_compile=True``
    included) and `jax.jit`; called eagerly it gives the same, at the speed of eager calls (JAX compiles the loop
    anew for each eager call). No gradient passes through it.

    Args:
        step_fn: ``step_fn(tokens, state) -> (logits, state)``: the last tokens (B·W,), int32 (the start token at the
            first call), and the state after them, to logits (B·W, V) of the next tokens, of any float dtype, and the
            new state. The W hypotheses of an element lie side by side. A logit of −inf forbids its token; where all
            are −inf the hypothesis is given up. NaN or +inf in the logits of an open hypothesis makes the scores of
            its batch element NaN, and only of that one. Its layers must have been built.
        initial_state: A nest (tuples, lists, dicts) of tensors with leading dimension B, or None. They are repeated
            W times, and reordered with the hypotheses after each step. Shapes and kinds must stay the same from step
            to step (a cache of keys and values has room for `max_length` from the start). What never changes and is
            shared by all hypotheses of an element, such as an encoder's outputs, is cheaper outside the state:
            ``keras.ops.repeat(outputs, W, axis=0)``, made once for `step_fn` to use.
        batch_size: B; an integer, or a scalar tensor where a graph knows it only when it runs.
        start_token: What the first call is given.
        end_token: The token that ends a sequence, in [0, V).
        max_length: The most tokens of a sequence, its end token included. A sequence cut there counts as it is.
        beam_width: W, the most open hypotheses an element has.
        temperature: T > 0. Above 1 it flattens the distributions, below 1 it sharpens them.
        length_penalty: At least 0. 0 compares log p itself, which favours short sequences; 1 compares means.
        num_results: R, at most W.

    Returns:
        A `BeamSearchResult`. Where an element has fewer than R possible sequences the rest have score and log p −inf,
        length 0, and hold `end_token` alone. Tokens and lengths of an element whose scores are NaN mean nothing.

    Raises:
        ValueError: If `step_fn` cannot be called or a number is not allowed; at the first call of `step_fn`, if logits
            or states have wrong shapes or hold no numbers, or `end_token` is none of the V tokens.

    Reference:
        Chorowski and Jaitly 2017 for what temperature does to it; the early stop for scores normalised by length is
        that of Huang, Zhao and Ma 2017 ("When to Finish?").

    Example:
    >>> import keras, numpy as np, keras_ls.decoding
    >>> logits = keras.ops.log(np.array([[0.1, 0.5, 0.4], [0.3, 0.4, 0.3], [0.9, 0.05, 0.05]], "float32"))
    >>> result = keras_ls.decoding.beam_search(
    ...     lambda tokens, state: (keras.ops.take(logits, tokens, axis=0), state), None,
    ...     batch_size=1, start_token=0, end_token=0, max_length=3, beam_width=4, num_results=2)
    >>> keras.ops.convert_to_numpy(result.tokens).tolist()
    [[[2, 0, 0], [1, 0, 0]]]
    >>> [round(float(score), 4) for score in result.scores[0]]
    [-1.0217, -1.8971]
    """
    if not callable(step_fn):
        raise ValueError(f"`step_fn` must be callable. Received: step_fn={shown(step_fn)}.")
    start_token = check_count("start_token", start_token, minimum=-(2**31))
    settings = _Settings(
        batch_size=_checked_batch_size(batch_size),
        end_token=check_count("end_token", end_token, minimum=0),
        max_length=check_count("max_length", max_length),
        beam_width=check_count("beam_width", beam_width),
        # Within float32, where 0 or infinity would make NaN of what has a limit.
        temperature=min(max(check_positive("temperature", temperature), 1e-37), 1e37),
        length_penalty=check_non_negative("length_penalty", length_penalty),
        num_results=check_count("num_results", num_results),
    )
    _check_sizes(settings)
    names, tensors = repeat_state(initial_state, settings.batch_size, settings.beam_width)

    def proceed(step, live, finished, tensors):
        tokens = ops.reshape(live.last, (-1,))
        logits, state = _checked_step(step_fn(tokens, pack_state(initial_state, tensors)), settings)
        live, finished, parents = _advance(settings, step, live, finished, logits)
        return step + 1, live, finished, reorder_state(state, names, tensors, parents)

    _, _, finished, _ = ops.while_loop(
        lambda step, live, finished, tensors: ops.any(live.log_probs > -math.inf),
        proceed,
        (ops.convert_to_tensor(0, dtype="int32"), *_start(settings, start_token), tensors),
    )
    failed = ops.expand_dims(finished.failed, -1)
    return BeamSearchResult(
        finished.tokens,
        finished.lengths,
        ops.where(failed, math.nan, finished.scores),
        ops.where(failed, math.nan, finished.log_probs),
    )


@dataclasses.dataclass(frozen=True)
class _Settings:
    """The checked arguments of a search."""

    batch_size: Any
    end_token: int
    max_length: int
    beam_width: int
    temperature: float
    length_penalty: float
    num_results: int

    @property
    def divisors(self) -> np.ndarray:
        """length**length_penalty for the lengths from 1 to `max_length`, within float32."""
        with np.errstate(over="ignore"):
            powers = np.arange(1, self.max_length + 1, dtype="float64") ** self.length_penalty
        return np.minimum(powers, np.finfo("float32").max).astype("float32")


class _Live(NamedTuple):
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


class _Finished(NamedTuple):
    """The R best complete hypotheses of each batch element, best first; −inf, length 0 where there is none.

    `failed` (B,) marks elements whose model gave NaN.
    """

    scores: Any
    log_probs: Any
    lengths: Any
    tokens: Any
    failed: Any


def _start(settings: _Settings, start_token: int) -> tuple[_Live, _Finished]:
    """One open hypothesis an element, without tokens; nothing finished."""
    size, width, results = settings.batch_size, settings.beam_width, settings.num_results

    def tokens(count):
        return ops.full((size, count, settings.max_length), settings.end_token, dtype="int32")

    first = ops.broadcast_to(ops.arange(width) == 0, (size, width))
    none = ops.full((size, results), -math.inf, dtype="float32")
    zero = ops.zeros((size,), dtype="float32")
    last = ops.full((size, width), start_token, dtype="int32")
    live = _Live(ops.where(first, zero[:, None], -math.inf), zero, zero, tokens(width), last)
    lengths = ops.zeros((size, results), dtype="int32")
    return live, _Finished(none, none, lengths, tokens(results), ops.zeros((size,), dtype="bool"))


def _advance(settings: _Settings, step, live: _Live, finished: _Finished, logits):
    """Extends the open hypotheses by one token; also returns the rows (B·W,) that they continue."""
    size, width, num_classes = settings.batch_size, settings.beam_width, logits.shape[-1]
    log_probs = ops.reshape(_log_softmax(logits, settings.temperature), (size, width, num_classes))
    extended = ops.expand_dims(live.log_probs, -1) + log_probs
    is_nan = ops.isnan(log_probs) & ops.expand_dims(live.log_probs > -math.inf, -1)
    extended = ops.where(ops.isnan(extended), -math.inf, extended)
    finished = finished._replace(failed=finished.failed | ops.any(is_nan, axis=(1, 2)))

    # One less than twice the width: with width 1 the end token must be the most probable to end the search.
    count = min(2 * width - 1, width * num_classes)
    totals, places = stable_top_k(ops.reshape(extended, (size, width * num_classes)), count)
    parents, tokens = places // num_classes, places % num_classes
    is_complete = (tokens == settings.end_token) | (step == settings.max_length - 1)

    complete = ops.where(is_complete, totals, -math.inf)
    finished = _finish(settings, step, live, finished, complete, parents, tokens)
    totals, chosen = stable_top_k(ops.where(is_complete, -math.inf, totals), width)
    places = _picked(places, chosen)
    parents, tokens = places // num_classes, places % num_classes
    live = _extend(settings, step, live, totals, parents, tokens)

    bound = live.best / settings.divisors[-1]
    is_done = finished.failed | (bound <= finished.scores[:, -1])
    live = live._replace(log_probs=ops.where(ops.expand_dims(is_done, -1), -math.inf, live.log_probs))
    return live, finished, _row_numbers(parents, width)


def _finish(settings: _Settings, step, live: _Live, finished: _Finished, log_probs, parents, tokens) -> _Finished:
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
    sources, last, lengths = ops.unstack(_picked(ops.concatenate([earlier, new], axis=1), chosen), 3, axis=-1)
    sequences = _picked(ops.concatenate([finished.tokens, live.tokens], axis=1), sources)
    return _Finished(scores, _picked(log_probs, chosen), lengths, _written(sequences, step, last), finished.failed)


def _extend(settings: _Settings, step, live: _Live, log_probs, parents, tokens) -> _Live:
    """The open hypotheses that continue `parents` (B, W) by `tokens`, `log_probs` being relative to `live.best`."""
    by = ops.where(log_probs[:, 0] > -math.inf, log_probs[:, 0], 0.0)
    best, rounding = _compensated_sum(live.best, live.rounding + by)
    return _Live(
        log_probs - ops.expand_dims(by, -1),
        best,
        rounding,
        _written(_picked(live.tokens, parents), step, tokens),
        tokens,
    )


def _log_softmax(logits, temperature: float):
    """(N, V) logits to log softmax(logits / temperature) in float32: −inf where all are −inf, NaN with NaN or +inf."""
    logits = ops.cast(ops.stop_gradient(logits), "float32")
    is_dead = ops.all(logits == -math.inf, axis=-1, keepdims=True)
    # Shifted before it is divided, so that a low temperature cannot overflow.
    shifted = (logits - ops.where(is_dead, 0.0, ops.max(logits, axis=-1, keepdims=True))) / temperature
    total = ops.sum(ops.exp(shifted), axis=-1, keepdims=True)
    return shifted - ops.log(ops.where(is_dead, 1.0, total))


def _compensated_sum(a, b):
    """The sum, and what rounding took from it: for |a| above |b|, or nearly so."""
    total = a + b
    return total, b - (total - a)


def _row_numbers(places, count: int):
    """(B, n) places among `count` to their rows (B·n,) where the batch lies flat."""
    first = ops.arange(ops.shape(places)[0], dtype="int32") * count
    return ops.reshape(places + ops.expand_dims(first, -1), (-1,))


def _picked(values, places):
    """(B, M, …) and (B, n) places among M to (B, n, …)."""
    size, count = places.shape[0], places.shape[1]
    rest = tuple(values.shape[2:])
    rows = ops.take(ops.reshape(values, (-1, *rest)), _row_numbers(places, values.shape[1]), axis=0)
    return ops.reshape(rows, (-1 if size is None else size, count, *rest))


def _written(sequences, step, tokens):
    """(B, n, L) sequences with `tokens` (B, n) at place `step`."""
    here = ops.arange(sequences.shape[2], dtype="int32") == step
    return ops.where(here, ops.expand_dims(tokens, -1), sequences)


def _checked_batch_size(batch_size: Any) -> Any:
    """B as an int where it is known, else as the scalar tensor that it is."""
    if not ops.is_tensor(batch_size):
        return check_count("batch_size", batch_size)
    if len(batch_size.shape) != 0 or "int" not in str(batch_size.dtype):
        raise ValueError(f"`batch_size` must be an integer. Received: batch_size={shown(batch_size)}.")
    return check_count("batch_size", int(batch_size)) if is_concrete(batch_size) else batch_size


def _check_sizes(settings: _Settings) -> None:
    """Refuses more results than hypotheses, and more hypotheses in a batch than int32 can number."""
    width, results, size = settings.beam_width, settings.num_results, settings.batch_size
    if results > width:
        raise ValueError(f"`num_results` must be at most `beam_width` ({width}). Received: num_results={results}.")
    if isinstance(size, int) and size * width * settings.max_length > LARGEST_COUNT:
        raise ValueError(
            f"`batch_size`·`beam_width`·`max_length` must be at most {LARGEST_COUNT}. "
            f"Received: {size}·{width}·{settings.max_length}."
        )


def _checked_step(output: Any, settings: _Settings) -> tuple[Any, Any]:
    """What `step_fn` returned: logits of the right shape and a state."""
    if not isinstance(output, (tuple, list)) or len(output) != 2:
        raise ValueError(f"`step_fn` must return a pair (logits, state). Received: {shown(output)}.")
    try:
        logits, state = numbers_to_tensor(output[0], "logits"), output[1]
    except ValueError:
        raise ValueError(f"`step_fn` must return logits that are numbers. Received: {shown(output[0])}.") from None
    size = settings.batch_size
    rows = size * settings.beam_width if isinstance(size, int) else None
    shape = tuple(logits.shape)
    if len(shape) != 2 or shape[1] is None or (rows and shape[0] not in (None, rows)):
        raise ValueError(
            f"`step_fn` must return logits of shape (batch_size·beam_width, V): ({rows}, V) with a known V. "
            f"Received: shape {shape}."
        )
    if settings.end_token >= shape[1]:
        raise ValueError(
            f"`end_token` must be one of the {shape[1]} tokens that `step_fn` has logits for. "
            f"Received: end_token={settings.end_token}."
        )
    return logits, state
