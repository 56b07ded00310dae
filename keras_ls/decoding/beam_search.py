"""Batched beam search over any step function, compiled as one loop."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_ls._arrays import to_numpy
from keras_ls._backend import is_concrete
from keras_ls._checks import LARGEST_COUNT, check_count, check_non_negative, check_positive, shown
from keras_ls._labels import numbers_to_tensor
from keras_ls.decoding._hypotheses import Settings, advance, is_open, start
from keras_ls.decoding._state import pack_state, reorder_state, repeat_state

# Within float32, where 0 or infinity would make NaN of what has a limit.
_LOWEST, _HIGHEST = 1e-37, 1e37


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
    temperature: Any = 1.0,
    length_penalty: float = 0.0,
    num_results: int = 1,
    max_lengths: Any = None,
    min_length: int = 0,
) -> BeamSearchResult:
    """Finds the token sequences of highest ``log p / length**length_penalty`` with beams of W open hypotheses.

    p is the product of ``softmax(logits / temperature)`` along the sequence. At every step the 2W − 1 most probable
    continuations of an element's open hypotheses are considered: those that end (by the end token, or at the longest
    length allowed) compete for the results, the W most probable others stay open. So width 1 is greedy search, and a
    width of (V − 1)**(max_length − 1), at least 2, finds the best of all sequences. An element is done as soon as
    no open hypothesis can reach its results: log p never rises, so that ``log p / longest**length_penalty`` bounds
    what an open one can score. Its results do not depend on the rest of the batch.

    Ties are broken in favour of the shorter sequence, then of the hypothesis that ranked higher before it was extended,
    then of the lowest token. Rounding of long sums does not build up: log p is summed with compensation, and
    open hypotheses are compared by their differences.

    The search is one `keras.ops.while_loop` without Python per step inside `tf.function` (``jit_compile=True``
    included) and `jax.jit`; called eagerly it gives the same, at the speed of eager calls (JAX compiles the loop
    anew for each eager call). `jax.jit` makes constants of the weights that `step_fn` reads, which later training does
    not change: pass them to the compiled function, in a `keras.StatelessScope`. No gradient passes through it.

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
        batch_size: The number of sequences searched for at once, B: an integer, or a scalar tensor if it is known only
            when the graph runs.
        start_token: The token given to the first call of `step_fn`.
        end_token: The token that ends a sequence, in [0, V).
        max_length: The most tokens of a sequence, its end token included. A sequence cut there counts as it is.
        beam_width: The largest number of open hypotheses per element, W.
        temperature: What the logits are divided by, above 0: a number, or a scalar tensor, so that one compiled graph
            serves all temperatures. Above 1 it flattens the distributions, below 1 it sharpens them. A tensor that is
            not above 0 makes all scores NaN.
        length_penalty: The power of the length that log p is divided by, at least 0. 0 compares log p itself, which
            favours short sequences; 1 compares means per token. Powers above 3.4e38 count as that.
        num_results: How many hypotheses are returned per element, R; at most W.
        max_lengths: None, or integers of shape (B,) in [max(1, `min_length`), `max_length`]: the most tokens of each
            element's sequences. Inside a compiled graph, where a tensor's values cannot be checked, they are clipped to
            that range.
        min_length: The fewest tokens of a sequence, its end token included. Shorter ones are not returned; log p stays
            the model's own, as if they had been allowed.

    Returns:
        A `BeamSearchResult`. Where an element has fewer than R possible sequences the rest have score and log p −inf,
        length 0, and hold `end_token` alone. Tokens and lengths of an element whose scores are NaN mean nothing.

    Raises:
        ValueError: If `step_fn` is not callable or a number is out of its range; at the first call of `step_fn`, if
            logits or states have the wrong shape or are not numbers, or `end_token` is not in [0, V).

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
    size, longest = _checked_batch_size(batch_size), check_count("max_length", max_length)
    shortest = check_count("min_length", min_length, minimum=0, maximum=longest)
    settings = Settings(
        batch_size=size,
        end_token=check_count("end_token", end_token, minimum=0),
        max_length=longest,
        limits=longest if max_lengths is None else _checked_limits(max_lengths, size, max(1, shortest), longest),
        min_length=shortest,
        beam_width=check_count("beam_width", beam_width),
        temperature=_checked_temperature(temperature),
        length_penalty=check_non_negative("length_penalty", length_penalty),
        num_results=check_count("num_results", num_results),
    )
    _check_sizes(settings)
    names, tensors = repeat_state(initial_state, settings.batch_size, settings.beam_width)

    def proceed(step, hypotheses, tensors):
        tokens = ops.reshape(hypotheses.live.last, (-1,))
        logits, state = _checked_step(step_fn(tokens, pack_state(initial_state, tensors)), settings)
        hypotheses, parents = advance(settings, step, hypotheses, logits)
        return step + 1, hypotheses, reorder_state(state, names, tensors, parents)

    _, hypotheses, _ = ops.while_loop(
        lambda step, hypotheses, tensors: is_open(hypotheses.live),
        proceed,
        (ops.convert_to_tensor(0, dtype="int32"), start(settings, start_token), tensors),
    )
    finished = hypotheses.finished
    failed = ops.expand_dims(finished.failed, -1)
    return BeamSearchResult(
        hypotheses.tokens[:, : settings.num_results],
        finished.lengths,
        ops.where(failed, math.nan, finished.scores),
        ops.where(failed, math.nan, finished.log_probs),
    )


def _checked_batch_size(batch_size: Any) -> Any:
    """B as an int if its value is known, otherwise as the scalar tensor given."""
    if not ops.is_tensor(batch_size):
        return check_count("batch_size", batch_size)
    if len(batch_size.shape) != 0 or "int" not in str(batch_size.dtype):
        raise ValueError(f"`batch_size` must be an integer. Received: batch_size={shown(batch_size)}.")
    return check_count("batch_size", int(batch_size)) if is_concrete(batch_size) else batch_size


def _checked_temperature(temperature: Any) -> Any:
    """T as a float, or as a float32 tensor that is NaN where it is not above 0."""
    if not ops.is_tensor(temperature) and not isinstance(temperature, keras.Variable):
        return min(max(check_positive("temperature", temperature), _LOWEST), _HIGHEST)
    tensor = numbers_to_tensor(temperature, "temperature")
    if len(tensor.shape) != 0:
        raise ValueError(f"`temperature` must be a number or a scalar tensor. Received: shape {tuple(tensor.shape)}.")
    tensor = ops.stop_gradient(ops.cast(tensor, "float32"))
    return ops.where(tensor > 0, ops.clip(tensor, _LOWEST, _HIGHEST), math.nan)


def _checked_limits(max_lengths: Any, batch_size: Any, shortest: int, longest: int) -> Any:
    """`max_lengths` as an int32 tensor (B,). Values that are known are checked, others are clipped."""
    limits = max_lengths if ops.is_tensor(max_lengths) else to_numpy("max_lengths", max_lengths)
    shape, known = tuple(limits.shape), isinstance(batch_size, int)
    if len(shape) != 1 or "int" not in str(limits.dtype) or (known and shape[0] not in (None, batch_size)):
        raise ValueError(
            f"`max_lengths` must be integers of shape (batch_size,), ({batch_size if known else None},). "
            f"Received: {limits.dtype} of shape {shape}."
        )
    if not ops.is_tensor(limits) or is_concrete(limits):
        values = to_numpy("max_lengths", limits)
        if ((values < shortest) | (values > longest)).any():
            raise ValueError(f"`max_lengths` must be in [{shortest}, {longest}]. Received: {shown(values)}.")
        limits = values.astype("int32")
    limits = numbers_to_tensor(limits, "max_lengths")
    if keras.backend.standardize_dtype(limits.dtype).endswith(("int8", "int16")):  # which may not hold `longest`
        limits = ops.cast(limits, "int32")
    limits = ops.cast(ops.clip(limits, shortest, longest), "int32")
    return ops.reshape(limits, (batch_size,)) if known else limits  # of a size that TensorFlow may not know


def _check_sizes(settings: Settings) -> None:
    """Raises `ValueError` for more results than hypotheses, or more hypotheses in a batch than int32 can number."""
    width, results, size = settings.beam_width, settings.num_results, settings.batch_size
    if results > width:
        raise ValueError(f"`num_results` must be at most `beam_width` ({width}). Received: num_results={results}.")
    if isinstance(size, int) and size * width * settings.max_length > LARGEST_COUNT:
        raise ValueError(
            f"`batch_size`·`beam_width`·`max_length` must be at most {LARGEST_COUNT}. "
            f"Received: {size}·{width}·{settings.max_length}."
        )


def _checked_step(output: Any, settings: Settings) -> tuple[Any, Any]:
    """The logits and the state that `step_fn` returned, checked."""
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
