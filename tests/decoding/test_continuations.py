"""The most probable continuations against a sort of all of them in float64."""

import numpy as np
import pytest
import reference
from harness import numpy
from keras import ops

from keras_ls.decoding._continuations import most_probable

SIZES = [(2, 1), (3, 30), (1, 1000), (8, 1000), (4, 1009)]  # 1009 is prime: its last block is filled up


def found(log_probs, logits, count, temperature=1.0, forbidden=None):
    result = most_probable(*map(ops.convert_to_tensor, (log_probs, logits)), count, temperature, forbidden)
    return result._replace(**{name: numpy(value) for name, value in result._asdict().items()})


def assert_best(result, log_probs, logits, count, temperature=1.0, forbidden=None):
    """Ties go to the hypothesis that comes first, then to the lowest token."""
    (size, width), num_classes = log_probs.shape, logits.shape[1]
    count = min(count, width * num_classes)
    assert result.scores.shape == result.tokens.shape == result.parents.shape == (size, count)
    assert (result.tokens >= 0).all()
    assert (result.tokens < num_classes).all()
    with np.errstate(invalid="ignore"):
        steps = np.array([reference.log_softmax(row / np.float64(temperature)) for row in logits])
    totals = log_probs[..., None] + steps.reshape(size, width, num_classes)
    totals[np.isnan(totals)] = -np.inf
    if forbidden is not None:
        totals[..., forbidden] = -np.inf
    totals = totals.reshape(size, -1)
    order = np.argsort(-totals, axis=1, kind="stable")[:, :count]
    expected = np.take_along_axis(totals, order, axis=1)
    possible = expected > -np.inf
    np.testing.assert_array_equal(result.scores > -np.inf, possible)
    scores = result.scores - result.shift[:, None]
    np.testing.assert_allclose(scores[possible], expected[possible], rtol=2e-6, atol=2e-6)
    codes = result.parents * num_classes + result.tokens
    np.testing.assert_array_equal(codes[possible], order[possible])


def hypotheses(rng, width):
    """Log-probabilities of the hypotheses of three elements, the last of which has fewer."""
    log_probs = -np.sort(rng.random((3, width)).astype("float32"), axis=1)
    log_probs -= log_probs[:, :1]
    log_probs[-1, width // 2 + 1 :] = -np.inf
    return log_probs


@pytest.mark.parametrize(("width", "num_classes"), SIZES)
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_best_are_those_of_a_sort(rng, width, num_classes, temperature):
    log_probs = hypotheses(rng, width)
    logits = rng.standard_normal((3 * width, num_classes)).astype("float32")
    for values in (logits, np.where(rng.random(logits.shape) < 0.98, -np.inf, logits).astype("float32")):
        result = found(log_probs, values, 2 * width - 1, temperature)
        assert_best(result, log_probs, values, 2 * width - 1, temperature)
        assert not result.is_nan.any()


@pytest.mark.parametrize(("width", "num_classes"), SIZES)
def test_ties_go_to_the_first_hypothesis_and_the_lowest_token(rng, width, num_classes):
    log_probs = np.zeros((3, width), "float32")
    row = rng.integers(0, 3, num_classes).astype("float32")
    for values in (row, np.zeros_like(row), np.where(np.arange(num_classes) > num_classes // 2, 1, 0)):
        logits = np.tile(values, (3 * width, 1)).astype("float32")
        assert_best(found(log_probs, logits, 2 * width - 1), log_probs, logits, 2 * width - 1)


@pytest.mark.parametrize(("width", "num_classes"), SIZES)
def test_a_forbidden_token_keeps_its_probability(rng, width, num_classes):
    log_probs = hypotheses(rng, width)
    logits = rng.standard_normal((3 * width, num_classes)).astype("float32")
    for token in {0, num_classes // 2, num_classes - 1}:
        logits[:, token] = 5.0
        for now in (True, False):
            result = found(log_probs, logits, 2 * width - 1, 1.0, (token, ops.convert_to_tensor(now)))
            assert_best(result, log_probs, logits, 2 * width - 1, forbidden=token if now else None)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("rest", [-np.inf, 0.0])
def test_nan_counts_wherever_it_stands_in_an_open_hypothesis(bad, rest):
    places = [0, 1, 24, 25, 998, 999]
    logits = np.full((2 * len(places), 1000), rest, "float32")
    logits[2 * np.arange(len(places)), places] = bad
    first, second = np.array([[0.0, -np.inf]], "float32"), np.array([[-np.inf, -np.inf]], "float32")
    assert found(np.repeat(first, len(places), 0), logits, 3).is_nan.all()
    dead = found(np.repeat(second, len(places), 0), logits, 3)
    assert not dead.is_nan.any()
    assert np.isneginf(dead.scores - dead.shift[:, None]).all()
    shuffled = np.roll(logits, 1, axis=0)  # NaN in the second hypothesis, which is not open
    result = found(np.repeat(first, len(places), 0), shuffled, 3)
    assert not result.is_nan.any()
    assert_best(result, np.repeat(first, len(places), 0), shuffled, 3)


def test_a_single_hypothesis_is_extended_by_its_highest_logit_at_any_temperature(rng):
    logits = rng.permutation(1000).astype("float32") * np.float32(1e-9)  # over the temperature all are as good as 0
    result = found(np.zeros((1, 1), "float32"), logits[None], 1, 1e37)
    assert result.tokens.tolist() == [[logits.argmax()]]
    np.testing.assert_allclose(result.scores[:, 0] - result.shift, -np.log(1000.0), rtol=1e-6)


def test_a_single_hypothesis_that_may_not_end_has_the_temperature_once():
    logits = np.array([[3.0, 1.0, 0.0]], "float32")
    result = found(np.zeros((1, 1), "float32"), logits, 1, 2.0, (0, ops.convert_to_tensor(True)))
    assert result.tokens.tolist() == [[1]]
    np.testing.assert_allclose(result.scores - result.shift, [[reference.log_softmax(logits[0] / 2)[1]]], rtol=1e-6)


def test_ties_of_blocks_whose_maxima_differ():
    logits = np.zeros((8, 1000), "float32")
    logits[:, [0, 998]], logits[:, 999] = 1.0, 2.0
    assert_best(found(np.zeros((1, 8), "float32"), logits, 15), np.zeros((1, 8), "float32"), logits, 15)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_widened_first(rng, dtype):
    log_probs = hypotheses(rng, 8)
    half = ops.cast(ops.convert_to_tensor(rng.standard_normal((24, 1000))), dtype)
    logits = numpy(ops.cast(half, "float32"))
    assert_best(found(log_probs, half, 15), log_probs, logits, 15)


def test_no_elements():
    result = found(np.zeros((0, 8), "float32"), np.zeros((0, 1000), "float32"), 15)
    assert result.tokens.shape == (0, 15)
