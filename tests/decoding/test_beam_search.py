"""Beam search against enumeration of every sequence in float64, greedy search, and itself in other settings."""

import contextlib
import itertools
import re

import keras
import numpy as np
import pytest
import reference
from harness import BACKEND, compiled, needs_graph, numpy, slow
from keras import ops

from keras_ls.decoding import BeamSearchResult, beam_search

CLOSE = {"rtol": 1e-5, "atol": 5e-7}  # a probability near 1 has a log of few digits in float32
START = -1  # so that the code of a prefix, code·V + token + 1, is still 0 after the start token


class TableModel:
    """Logits that depend on the whole prefix, whose code is the state: table (B, prefixes, V)."""

    def __init__(self, rng, size, num_classes, max_length, scale=2.0):
        prefixes = sum(num_classes**length for length in range(max_length))
        self.table = (scale * rng.standard_normal((size, prefixes, num_classes))).astype("float32")
        self.table[..., 0] -= np.linspace(-1.5, 1.5, size)[:, None]  # token 0 is the end: lengths differ
        self.max_length = max_length

    @property
    def state(self):
        size = len(self.table)
        return {"element": np.arange(size, dtype="int32"), "code": np.zeros((size, 1), "int32")}

    def step(self, tokens, state):
        size, prefixes, num_classes = self.table.shape
        code = state["code"] * num_classes + ops.expand_dims(tokens, -1) + 1
        rows = ops.reshape(ops.convert_to_tensor(self.table), (size * prefixes, num_classes))
        # Past the longest prefix nothing is read that counts.
        place = state["element"] * prefixes + ops.minimum(code[:, 0], prefixes - 1)
        return ops.take(rows, place, axis=0), {"code": code, "element": state["element"]}

    def search(self, **options):
        options = {"max_length": self.max_length, "end_token": 0, "start_token": START, **options}
        return arrays(beam_search(self.step, self.state, len(self.table), **options))

    def log_prob(self, element, tokens, temperature=1.0):
        code, total = 0, 0.0
        for token in tokens:
            total += reference.log_softmax(self.table[element, code] / np.float64(temperature))[token]
            code = code * self.table.shape[2] + token + 1
        return total

    def enumerated(self, element, temperature=1.0, length_penalty=0.0, max_lengths=None, min_length=0):
        """All complete sequences of an element as (score, log p, tokens), best first, the shorter of equals first."""
        num_classes = self.table.shape[2]
        limit = self.max_length if max_lengths is None else max_lengths[element]
        found = []
        for length in range(max(1, min_length), limit + 1):
            for tokens in itertools.product(range(num_classes), repeat=length):
                if 0 in tokens[:-1] or (length < limit and tokens[-1] != 0):
                    continue
                log_prob = self.log_prob(element, tokens, temperature)
                if log_prob > -np.inf:
                    found.append((log_prob / length**length_penalty, log_prob, tokens))
        return sorted(found, key=lambda item: -item[0])


def arrays(result):
    assert isinstance(result, BeamSearchResult)
    return BeamSearchResult(*map(numpy, result))


def sequences(result, element):
    """The hypotheses of an element as tuples of tokens."""
    return [tuple(row[:n].tolist()) for row, n in zip(result.tokens[element], result.lengths[element], strict=True)]


def assert_is_enumeration(result, model, **options):
    """Each element's results are the best of all its sequences, in order, and hold what they must hold elsewhere."""
    for element in range(len(model.table)):
        expected = model.enumerated(element, **options)
        count = min(len(expected), result.scores.shape[1])
        np.testing.assert_allclose(result.scores[element, :count], [e[0] for e in expected[:count]], **CLOSE)
        np.testing.assert_allclose(result.log_probs[element, :count], [e[1] for e in expected[:count]], **CLOSE)
        assert sequences(result, element)[:count] == [e[2] for e in expected[:count]]
        assert np.isneginf(result.scores[element, count:]).all()
        assert np.isneginf(result.log_probs[element, count:]).all()
        assert (result.lengths[element, count:] == 0).all()
        past = np.arange(model.max_length) >= result.lengths[element][:, None]
        assert (result.tokens[element][past] == 0).all()


def assert_same(result, expected, elements):
    """The results are those of the given elements, up to what a vectorised exponential may differ by."""
    np.testing.assert_array_equal(result.tokens, expected.tokens[elements])
    np.testing.assert_array_equal(result.lengths, expected.lengths[elements])
    np.testing.assert_allclose(result.scores, expected.scores[elements], **CLOSE)
    np.testing.assert_allclose(result.log_probs, expected.log_probs[elements], **CLOSE)


def exhaustive_width(num_classes, max_length):
    return max(2, (num_classes - 1) ** (max_length - 1))


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.5])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize(("num_classes", "max_length"), [(2, 6), (3, 5), (4, 4), (5, 3)])
def test_a_wide_beam_finds_what_enumeration_finds(rng, num_classes, max_length, temperature, length_penalty):
    model = TableModel(rng, 4, num_classes, max_length)
    options = {"temperature": temperature, "length_penalty": length_penalty}
    width = exhaustive_width(num_classes, max_length)
    result = model.search(beam_width=width, num_results=min(width, 7), **options)
    assert_is_enumeration(result, model, **options)
    if temperature == 1.0 and length_penalty == 0.0:
        assert len(set(result.lengths[:, 0])) > 1


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 2.5])
@pytest.mark.parametrize("options", [{"max_lengths": [5, 1, 3, 4]}, {"min_length": 4}, {"min_length": 5}])
def test_limits_of_length_are_those_of_the_enumeration(rng, options, length_penalty):
    model, options = TableModel(rng, 4, 3, 5), {**options, "length_penalty": length_penalty}
    result = model.search(beam_width=16, num_results=7, **options)
    assert_is_enumeration(result, model, **options)


def test_both_limits_of_length_together(rng):
    model, options = TableModel(rng, 4, 3, 5), {"max_lengths": np.array([2, 5, 3, 2]), "min_length": 2}
    assert_is_enumeration(model.search(beam_width=16, num_results=7, **options), model, **options)


@pytest.mark.parametrize("graph", [False, pytest.param(True, marks=needs_graph)])
def test_a_least_length_holds_for_greedy_search_too(graph):
    def search():
        return tuple(beam_search(steady([2.0, 1.0, 0.0]), None, 1, 1, 0, 5, beam_width=1, min_length=3))

    found = arrays(BeamSearchResult(*(compiled(search) if graph else search)()))
    assert (found.tokens.tolist(), found.lengths.tolist()) == ([[[1, 1, 0, 0, 0]]], [[3]])
    total = np.log(np.exp([2.0, 1.0, 0.0]).sum())
    np.testing.assert_allclose(found.log_probs, [[4.0 - 3 * total]], rtol=1e-5)


@needs_graph
@pytest.mark.parametrize(("width", "jit"), [(1, False), (3, True), slow(1, True), slow(3, False)])
def test_each_limit_bounds_the_search_of_its_element_alone(rng, width, jit):
    model, limits = TableModel(rng, 4, 4, 6), np.array([6, 1, 4, 3], "int32")
    search = compiled(
        lambda limits: tuple(
            beam_search(model.step, model.state, 4, START, 0, 6, width, length_penalty=1.0, max_lengths=limits)
        ),
        jit=jit,
    )
    result = arrays(BeamSearchResult(*search(ops.convert_to_tensor(limits))))
    for element, limit in enumerate(limits):
        alone = model.search(beam_width=width, length_penalty=1.0, max_lengths=[int(limit)] * 4)
        assert_same(BeamSearchResult(*(field[element] for field in result)), alone, element)
    clipped = arrays(BeamSearchResult(*search(ops.convert_to_tensor(np.array([100, -5, 4, 3], "int32")))))
    np.testing.assert_array_equal(clipped.tokens, result.tokens)


@needs_graph
def test_one_graph_serves_all_temperatures(rng):
    model, traces = TableModel(rng, 3, 4, 4), []

    def search(temperature):
        traces.append(temperature)
        return tuple(beam_search(model.step, model.state, 3, START, 0, 4, 4, temperature))

    search = compiled(search)
    for temperature in (0.3, 1.0, 4.0):
        result = arrays(BeamSearchResult(*search(ops.convert_to_tensor(temperature, dtype="float32"))))
        expected = model.search(temperature=temperature)
        assert_same(result, expected, slice(None))
    assert len(traces) == 1
    for temperature in (0.0, -1.0, np.nan):
        scores = numpy(search(ops.convert_to_tensor(temperature, dtype="float32"))[2])
        assert np.isnan(scores).all()


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
def test_a_temperature_may_be_a_tensor_of_any_dtype_or_a_variable(rng, dtype):
    model = TableModel(rng, 3, 4, 4)
    expected = model.search(temperature=2.0)
    for temperature in (ops.convert_to_tensor(2, dtype=dtype), keras.Variable(2.0, trainable=False)):
        assert_same(model.search(temperature=temperature), expected, slice(None))
    assert np.isnan(model.search(temperature=ops.convert_to_tensor(0, dtype=dtype)).scores).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_length": 5}, "`min_length` must be at most 4"),
        ({"min_length": -1}, "`min_length` must be at least 0"),
        ({"max_lengths": [1, 5, 2]}, "`max_lengths` must be in [1, 4]"),
        ({"max_lengths": [0, 1, 2]}, "`max_lengths` must be in [1, 4]"),
        ({"max_lengths": [2, 3, 4], "min_length": 3}, "`max_lengths` must be in [3, 4]"),
        ({"max_lengths": [2, 3]}, "`max_lengths` must be integers of shape (batch_size,), (3,)"),
        ({"max_lengths": [[2, 3, 4]]}, "`max_lengths` must be integers"),
        ({"max_lengths": [2.0, 3.0, 4.0]}, "`max_lengths` must be integers"),
        ({"max_lengths": 4}, "`max_lengths` must be integers"),
        ({"max_lengths": "abc"}, "`max_lengths` must be an array of real numbers"),
        ({"max_lengths": ops.convert_to_tensor([1, 2, 5], dtype="int32")}, "`max_lengths` must be in [1, 4]"),
        ({"temperature": ops.convert_to_tensor([1.0])}, "`temperature` must be a number or a scalar tensor"),
    ],
)
def test_bad_limits_and_temperatures_are_refused(rng, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TableModel(rng, 3, 4, 4).search(**options)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_the_largest_case(rng, length_penalty):
    model = TableModel(rng, 2, 5, 6)
    result = model.search(beam_width=5**5, length_penalty=length_penalty, num_results=50)
    assert_is_enumeration(result, model, length_penalty=length_penalty)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_all_sequences_are_found_once(rng, length_penalty):
    model = TableModel(rng, 2, 3, 4)
    result = model.search(beam_width=60, num_results=60, length_penalty=length_penalty)
    assert np.isfinite(result.scores[0]).sum() == 1 + 2 + 4 + 8 * 3
    assert_is_enumeration(result, model, length_penalty=length_penalty)
    np.testing.assert_allclose(np.exp(result.log_probs.astype("float64")).sum(axis=1), 1.0, rtol=1e-5)


def test_best_score_never_falls_with_exhaustive_widths(rng):
    model = TableModel(rng, 5, 4, 4)
    first = exhaustive_width(4, 4)
    scores = [model.search(beam_width=width, length_penalty=0.8).scores[:, 0] for width in (first, first + 1, 50, 256)]
    for narrow, wide in itertools.pairwise(scores):
        np.testing.assert_allclose(narrow, wide, **CLOSE)


@pytest.mark.parametrize("length_penalty", [0.0, 2.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_width_1_is_greedy(rng, temperature, length_penalty):
    model = TableModel(rng, 32, 4, 5)
    result = model.search(beam_width=1, temperature=temperature, length_penalty=length_penalty)
    for element in range(32):
        code, expected = 0, []
        while len(expected) < 5 and 0 not in expected:
            expected.append(int(model.table[element, code].argmax()))
            code = code * 4 + expected[-1] + 1
        assert sequences(result, element) == [tuple(expected)]
        log_prob = model.log_prob(element, expected, temperature)
        np.testing.assert_allclose(result.log_probs[element], log_prob, **CLOSE)
        np.testing.assert_allclose(result.scores[element], log_prob / len(expected) ** length_penalty, **CLOSE)


@pytest.mark.parametrize("width", [2, 3, 5])
def test_narrow_beams_give_true_scores_in_order(rng, width):
    model = TableModel(rng, 6, 5, 6)
    result = model.search(beam_width=width, num_results=width, length_penalty=0.7)
    for element in range(6):
        found = sequences(result, element)
        assert len(set(found)) == width
        log_probs = [model.log_prob(element, tokens) for tokens in found]
        np.testing.assert_allclose(result.log_probs[element], log_probs, rtol=1e-5)
        np.testing.assert_allclose(
            result.scores[element], log_probs / result.lengths[element].astype(float) ** 0.7, rtol=1e-5
        )
        assert (np.diff(result.scores[element]) <= 0).all()


def plain_beam_search(model, element, width, length_penalty):
    """The search as its documentation states it, in float64, without an early stop: the best (score, tokens)."""
    live, finished = [(0.0, (), 0)], []
    num_classes = model.table.shape[2]
    for length in range(1, model.max_length + 1):
        extended = []
        for log_prob, tokens, code in live:
            steps = reference.log_softmax(model.table[element, code])
            extended += [(log_prob + steps[k], (*tokens, k), code * num_classes + k + 1) for k in range(num_classes)]
        extended = sorted(extended, key=lambda item: -item[0])[: 2 * width - 1]
        ends = [item for item in extended if item[1][-1] == 0 or length == model.max_length]
        finished += [(log_prob / length**length_penalty, tokens) for log_prob, tokens, _ in ends]
        live = [item for item in extended if item not in ends][:width]
    return max(finished)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("width", [2, 4])
def test_stopping_early_changes_nothing(rng, width, length_penalty):
    model = TableModel(rng, 24, 5, 6)
    result = model.search(beam_width=width, length_penalty=length_penalty)
    for element in range(24):
        score, tokens = plain_beam_search(model, element, width, length_penalty)
        np.testing.assert_allclose(result.scores[element, 0], score, rtol=1e-5)
        assert sequences(result, element) == [tokens]


def test_more_results_begin_with_the_fewer(rng):
    model = TableModel(rng, 6, 4, 5)
    one, four = (model.search(beam_width=4, num_results=count, length_penalty=1.0) for count in (1, 4))
    np.testing.assert_array_equal(one.tokens, four.tokens[:, :1])
    np.testing.assert_array_equal(one.scores, four.scores[:, :1])


def test_end_token_at_the_first_step(rng):
    model = TableModel(rng, 3, 4, 5)
    model.table[1, 0, 0] = 50.0
    result = model.search(beam_width=3)
    assert sequences(result, 1) == [(0,)]
    assert result.lengths[1, 0] == 1
    np.testing.assert_allclose(result.scores[1, 0], 0.0, atol=1e-6)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("width", [1, 64])
def test_models_that_never_end_are_cut_and_count_whole(rng, width, length_penalty):
    model = TableModel(rng, 3, 4, 4)
    model.table[..., 0] = -np.inf
    result = model.search(beam_width=width, length_penalty=length_penalty)
    assert (result.lengths == 4).all()
    assert (result.tokens != 0).all()
    for element in range(3):
        log_prob = model.log_prob(element, result.tokens[element, 0])
        np.testing.assert_allclose(result.scores[element, 0], log_prob / 4**length_penalty, **CLOSE)
        if width == 64:
            assert sequences(result, element)[0] == model.enumerated(element)[0][2]


def test_cut_sequences_compete_with_those_that_ended(rng):
    model = TableModel(rng, 8, 3, 3)
    result = model.search(beam_width=8, num_results=8, length_penalty=1.5)
    assert_is_enumeration(result, model, length_penalty=1.5)
    cut = result.tokens[:, :, -1] != 0
    assert 0 < cut[:, 0].sum() < 8


def test_minus_infinity_forbids_tokens(rng):
    model = TableModel(rng, 4, 4, 4)
    model.table[rng.uniform(size=model.table.shape) < 0.4] = -np.inf
    model.table[:, :, 3] = rng.standard_normal(model.table.shape[:2])  # one is always allowed
    result = model.search(beam_width=200, num_results=200)
    assert_is_enumeration(result, model)
    assert np.isneginf(result.scores).any()


def test_hypotheses_without_an_allowed_token_are_given_up(rng):
    model = TableModel(rng, 3, 3, 4)
    expected = model.search(beam_width=64, num_results=64)
    model.table[0, 0] = -np.inf  # no sequence at all
    model.table[1, 1 + 1] = -np.inf  # nothing follows token 1
    result = model.search(beam_width=64, num_results=64)
    assert np.isneginf(result.scores[0]).all()
    assert (result.lengths[0] == 0).all()
    assert (result.tokens[0] == 0).all()
    assert np.isfinite(result.scores[1, 0])
    assert not [tokens for tokens in sequences(result, 1) if tokens[:1] == (1,)]
    assert_same(BeamSearchResult(*(field[2:] for field in result)), expected, [2])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("width", [1, 4])
def test_nan_stays_in_its_batch_element(rng, width, value):
    model = TableModel(rng, 4, 4, 5)
    expected = model.search(beam_width=width, num_results=width)
    model.table[1, :, 2] = value
    model.table[3, 0] = [-np.inf, -np.inf, value, -np.inf]
    result = model.search(beam_width=width, num_results=width)
    assert np.isnan(result.scores[[1, 3]]).all()
    assert np.isnan(result.log_probs[[1, 3]]).all()
    assert ((result.tokens >= 0) & (result.tokens < 4)).all()
    assert_same(BeamSearchResult(*(field[[0, 2]] for field in result)), expected, [0, 2])


def test_nan_where_no_hypothesis_goes_is_not_seen(rng):
    model = TableModel(rng, 2, 3, 4)
    model.table[:, 0, 2] = -np.inf
    expected = model.search(beam_width=27, num_results=5)
    model.table[:, 2 + 1] = np.nan  # what would follow token 2
    for ours, theirs in zip(model.search(beam_width=27, num_results=5), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("width", [1, 3, 4, 40])
def test_equals_come_shorter_first_then_in_order_of_tokens(width):
    """Uniform over 4 tokens with mean log p as score: every complete sequence scores −log 4."""
    model = TableModel(np.random.default_rng(0), 3, 4, 4)
    model.table[:] = 0.0
    count = min(width, 5)
    result = model.search(beam_width=width, num_results=count, length_penalty=1.0)
    np.testing.assert_allclose(result.scores, -np.log(4), rtol=1e-6)
    expected = {
        1: [(0,)],
        3: [(0,), (1, 0), (2, 0)],
        4: [(0,), (1, 0), (2, 0), (1, 1, 0)],  # (3, …) was the last of the equals, and pruned
        40: [(0,), (1, 0), (2, 0), (3, 0), (1, 1, 0)],
    }
    assert sequences(result, 0) == expected[width]
    for element in (1, 2):
        assert sequences(result, element) == sequences(result, 0)
    for field, again in zip(result, model.search(beam_width=width, num_results=count, length_penalty=1.0), strict=True):
        np.testing.assert_array_equal(field, again)


def test_equals_among_many_tokens_take_the_lowest():
    """More equals than a backend's selection keeps, the best of them among the last."""
    logits = np.zeros((1, 500), "float32")
    logits[:, [7, 450]] = 1.0
    logits[:, 499] = -np.inf

    def step(tokens, state):
        return ops.broadcast_to(ops.convert_to_tensor(logits), (6, 500)), state

    result = arrays(beam_search(step, None, 1, 0, 499, max_length=1, beam_width=6, num_results=6))
    assert result.tokens[0, :, 0].tolist() == [7, 450, 0, 1, 2, 3]


@pytest.mark.parametrize("width", [1, 3, 8])
def test_results_do_not_depend_on_the_batch(rng, width):
    model = TableModel(rng, 7, 4, 5)
    whole = model.search(beam_width=width, num_results=width, length_penalty=0.5)
    order = rng.permutation(7)
    table = model.table
    model.table = table[order]
    assert_same(model.search(beam_width=width, num_results=width, length_penalty=0.5), whole, order)
    for element in (0, 6):
        model.table = table[element : element + 1]
        alone = model.search(beam_width=width, num_results=width, length_penalty=0.5)
        assert_same(alone, whole, [element])


def test_room_that_is_not_needed_changes_nothing(rng):
    model = TableModel(rng, 4, 3, 5)
    model.table[:, 4:, 0] = 60.0  # all end at their third token at the latest
    short, long = model.search(beam_width=4, max_length=4), model.search(beam_width=4, max_length=40)
    np.testing.assert_array_equal(short.tokens, long.tokens[..., :4])
    np.testing.assert_array_equal(short.scores, long.scores)
    assert (long.tokens[..., 4:] == 0).all()


def test_state_follows_its_hypothesis(rng):
    """The model weighs every earlier token by a state that only its own hypothesis can have."""
    weights = ops.convert_to_tensor(rng.standard_normal((5, 5)).astype("float32"))

    def step(tokens, state):
        sums, (history, places) = state
        place = ops.one_hot(places, 6, dtype="int32")
        history = history + ops.expand_dims(place, -1) * ops.reshape(tokens + 1, (-1, 1, 1))
        sums = 0.7 * sums + ops.one_hot(tokens, 5)
        seen = ops.sum(ops.cast(history[..., 0], "float32") * np.arange(1, 7, dtype="float32"), axis=1)
        logits = ops.matmul(sums, weights) + 0.05 * seen[:, None] * np.arange(5, dtype="float32")
        return logits, [sums, (history, places + 1)]

    state = (np.zeros((3, 5), "float32"), (np.zeros((3, 6, 1), "int32"), np.zeros((3,), "int32")))
    result = arrays(beam_search(step, state, 3, 2, 0, max_length=6, beam_width=9, num_results=9))
    for found, log_prob in zip(sequences(result, 0), result.log_probs[0], strict=True):
        sums, seen, last, total = np.zeros(5), 0.0, 2, 0.0
        for place, token in enumerate(found, start=1):
            sums, seen = 0.7 * sums + np.eye(5)[last], seen + place * (last + 1)
            total += reference.log_softmax(sums @ numpy(weights) + 0.05 * seen * np.arange(5))[token]
            last = token
        np.testing.assert_allclose(log_prob, total, rtol=1e-5)


def uncompiled():
    """Loops run step by step in Python."""
    if BACKEND != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.disable_jit()


@pytest.mark.parametrize(("length_penalty", "limits", "steps"), [(0.0, None, 2), (1.0, None, 6), (1.0, [8, 8], 3)])
def test_stops_as_soon_as_no_open_hypothesis_can_win(length_penalty, limits, steps):
    """The end has probability 0.1, then always 0.8.

    The best that ends has log p = log(0.45·0.8) = −1.02, at step 2. What is open after step t has at best
    log(0.45·0.1**(t − 1)): less from step 2 on, which is all that counts without a penalty. With penalty 1 its score
    is −0.51, and the bound, over max_length = 20, is −0.50 after step 5 and −0.62 after step 6; over a limit of 8,
    −0.39 after step 2 and −0.68 after step 3.
    """
    tables = np.log(np.array([[0.1, 0.45, 0.45], [0.8, 0.1, 0.1]], "float32"))
    calls = []

    def step(tokens, state):
        calls.append(tuple(tokens.shape))
        rows = ops.take(ops.convert_to_tensor(tables), ops.minimum(state, 1), axis=0)
        return rows, state + 1

    with uncompiled():
        result = arrays(
            beam_search(
                step,
                np.zeros((2,), "int32"),
                2,
                1,
                0,
                max_length=20,
                beam_width=3,
                length_penalty=length_penalty,
                max_lengths=limits,
            )
        )
    assert set(calls) == {(6,)}
    np.testing.assert_allclose(result.log_probs[:, 0], np.log(0.36), rtol=1e-5)
    assert len(calls) == steps


def test_a_sure_end_takes_one_call():
    calls = []

    def step(tokens, state):
        calls.append(1)
        return ops.convert_to_tensor(np.tile([[9.0, 0.0, 0.0]], (4, 1)).astype("float32")), state

    with uncompiled():
        beam_search(step, (), 1, 0, 0, max_length=50, beam_width=4)
    assert len(calls) == 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_logits_of_other_dtypes_are_searched_in_float32(rng, dtype):
    if BACKEND == "jax" and dtype == "float64":
        pytest.skip("JAX has no float64 by default")
    model = TableModel(rng, 3, 4, 4)
    model.table = numpy(ops.cast(model.table, dtype)).astype("float32")  # exact in float32

    def step(tokens, state):
        logits, state = model.step(tokens, state)
        return ops.cast(logits, dtype), state

    expected = model.search(beam_width=5, num_results=5)
    result = beam_search(step, model.state, 3, START, 0, max_length=4, beam_width=5, num_results=5)
    assert [keras.backend.standardize_dtype(field.dtype) for field in result] == ["int32", "int32", *["float32"] * 2]
    np.testing.assert_array_equal(numpy(result.tokens), expected.tokens)
    np.testing.assert_allclose(numpy(result.scores), expected.scores, rtol=1e-6)


def test_extreme_logits_and_temperatures_stay_finite(rng):
    model = TableModel(rng, 3, 4, 4, scale=1e5)
    for temperature in (1e-3, 1e5):
        result = model.search(beam_width=64, temperature=temperature)
        assert_is_enumeration(result, model, temperature=temperature)
    model.table = np.clip(1e35 * model.table.astype("float64"), -3e38, 3e38).astype("float32")
    assert np.isfinite(model.search(beam_width=4).scores).all()
    model = TableModel(rng, 3, 4, 4)
    assert not np.isnan(model.search(beam_width=64, length_penalty=500.0, num_results=64).scores).any()


def steady(logits):
    """A model of the same logits at each step."""
    logits = np.asarray(logits, "float32")
    return lambda tokens, state: (ops.zeros((tokens.shape[0], 1)) + ops.convert_to_tensor(logits), state)


@pytest.mark.parametrize(("width", "jit"), [(1, False), pytest.param(4, True, marks=needs_graph), slow(4, False)])
def test_long_sequences_keep_their_log_probs(width, jit):
    """600 equal steps: plain float32 sums are off by several times the tolerance."""
    logits = np.array([-np.inf, 0.3, 0.1, -0.4])
    search = steady(logits)
    run = compiled(lambda: beam_search(search, None, 1, 1, 0, 600, beam_width=width, num_results=width), jit=jit)
    result = arrays(run())
    steps = reference.log_softmax(logits.astype("float32"))
    for found, log_prob in zip(result.tokens[0], result.log_probs[0], strict=True):
        np.testing.assert_allclose(log_prob, steps[found].sum(), rtol=3e-7)
    assert (result.tokens[0, 0] == 1).all()


@pytest.mark.parametrize("width", [1, 2])
def test_small_differences_count_after_long_sequences(width):
    """At a log p of −2,500 float32 has steps of 2e-4: a difference of 5e-5 must still decide."""
    logits = np.zeros(64)
    logits[0] = -np.inf
    logits[40] += 5e-5
    search = steady(logits)
    run = compiled(lambda: beam_search(search, None, 1, 1, 0, max_length=600, beam_width=width))
    result = arrays(run())
    assert result.log_probs[0, 0] < -2400
    assert (result.tokens[0, 0] == 40).all()


def test_more_beams_than_tokens_and_one_token_alone():
    result = arrays(beam_search(steady([0.0]), None, 2, 0, 0, max_length=3, beam_width=5, num_results=5))
    assert result.scores[:, 0].tolist() == [0.0, 0.0]
    assert np.isneginf(result.scores[:, 1:]).all()
    assert result.lengths.tolist() == [[1, 0, 0, 0, 0]] * 2
    result = arrays(beam_search(steady([0.0, 1.0]), None, 1, 0, 0, max_length=1, beam_width=5, num_results=5))
    assert result.tokens[0, :, 0].tolist() == [1, 0, 0, 0, 0]
    assert np.isfinite(result.scores[0]).tolist() == [True, True, False, False, False]


@needs_graph
@pytest.mark.parametrize(("width", "jit"), [(1, False), (5, True), slow(1, True), slow(5, False)])
def test_compiled_equals_eager(rng, width, jit):
    model = TableModel(rng, 4, 4, 5)
    eager = model.search(beam_width=width, num_results=width, length_penalty=0.6)

    def run(element, code):
        state = {"element": element, "code": code}
        return beam_search(model.step, state, 4, START, 0, 5, beam_width=width, num_results=width, length_penalty=0.6)

    state = {name: ops.convert_to_tensor(value) for name, value in model.state.items()}
    result = arrays(compiled(run, jit=jit)(state["element"], state["code"]))
    assert_same(result, eager, slice(None))


@needs_graph
def test_the_compiled_loop_has_no_python_per_step():
    calls = []

    def step(tokens, state):
        calls.append(1)
        return steady([-np.inf, 0.3, 0.1])(tokens, state)

    run = compiled(lambda: beam_search(step, None, 2, 0, 0, max_length=200, beam_width=3))
    for _ in range(2):
        assert (numpy(run().lengths) == 200).all()
    assert len(calls) <= 3  # tracing alone


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has graphs with a batch size known when they run")
@pytest.mark.parametrize("jit", [False, True])
def test_batch_sizes_that_only_the_running_graph_knows(rng, jit):
    import tensorflow as tf

    model = TableModel(rng, 5, 4, 4)
    expected = model.search(beam_width=3, num_results=2)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32)], jit_compile=jit)
    def run(element):
        state = {"element": element, "code": tf.zeros((tf.shape(element)[0], 1), tf.int32)}
        size = tf.shape(element)[0]
        return beam_search(model.step, state, size, START, 0, 4, beam_width=3, num_results=2)

    for chosen in ([0, 1, 2, 3, 4], [3]):
        result = arrays(run(tf.constant(chosen, tf.int32)))
        assert_same(result, expected, chosen)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has tensors of unknown size")
def test_sizes_that_tensorflow_does_not_know():
    import tensorflow as tf

    def step(tokens, state):
        return tf.zeros((4, 3)), state

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32)])
    def limited(limits):
        return beam_search(step, None, 1, 0, 0, 8, beam_width=4, length_penalty=2.0, max_lengths=limits)

    assert arrays(limited(tf.constant([5]))).lengths.tolist() == [[5]]

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    def greedy(x):
        return beam_search(lambda tokens, state: (state, state + x), tf.zeros((1, 3)), 1, 0, 0, 4, beam_width=1)

    assert arrays(greedy(tf.constant([[0.0, 1.0, 2.0]]))).tokens.tolist() == [[[0, 0, 0, 0]]]


def test_searches_with_a_keras_decoder(rng):
    """A GRU decoder, its state a list as Keras returns it: width 1 is the model's own greedy search."""
    embedding, cell, head = keras.layers.Embedding(6, 8), keras.layers.GRUCell(12), keras.layers.Dense(6)
    for layer, width in ((embedding, 6), (cell, 8), (head, 12)):
        layer.build((None, width))

    def step(tokens, state):
        output, state = cell(embedding(tokens), state)
        return head(output), state

    start = rng.standard_normal((3, 12)).astype("float32")
    result = arrays(beam_search(step, [start], 3, 1, 0, max_length=8, beam_width=1))
    for element in range(3):
        tokens, state, found = np.array([1]), [start[element : element + 1]], []
        while len(found) < 8 and 0 not in found:
            logits, state = step(tokens, state)
            tokens = numpy(logits).argmax(-1)
            found.append(int(tokens[0]))
        assert sequences(result, element) == [tuple(found)]
    assert np.isfinite(result.scores).all()


def test_no_gradient_passes_through():
    if BACKEND != "torch":
        pytest.skip("only PyTorch's tensors show it")
    weights = ops.convert_to_tensor(np.ones((3, 3), "float32")).requires_grad_(True)
    result = beam_search(lambda tokens, state: (weights[tokens], state), None, 1, 0, 0, max_length=4)
    assert not result.scores.requires_grad
    for temperature in (ops.convert_to_tensor(2.0).requires_grad_(True), keras.Variable(2.0)):
        found = beam_search(lambda tokens, state: (weights[tokens], state), None, 1, 0, 0, 4, temperature=temperature)
        assert not found.scores.requires_grad


GOOD = {"batch_size": 2, "start_token": 0, "end_token": 0, "max_length": 3}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("batch_size", 2.0),
        ("start_token", 1.5),
        ("start_token", None),
        ("end_token", -1),
        ("end_token", 3),
        ("max_length", 0),
        ("max_length", True),
        ("beam_width", 0),
        ("beam_width", "4"),
        ("temperature", 0.0),
        ("temperature", float("nan")),
        ("temperature", -1.0),
        ("length_penalty", -0.1),
        ("length_penalty", float("inf")),
        ("length_penalty", "mean"),
        ("num_results", 0),
        ("num_results", 5),
        ("batch_size", True),
        ("batch_size", "2"),
        ("batch_size", 2**70),
        ("start_token", 2**31),
        ("start_token", "<s>"),
        ("end_token", 2**70),
        ("end_token", float("nan")),
        ("max_length", 2**70),
        ("max_length", 2**31 - 1),
        ("max_length", "3"),
        ("beam_width", 2**31),
        ("beam_width", float("nan")),
        ("temperature", True),
        ("temperature", "1"),
        ("length_penalty", float("nan")),
        ("length_penalty", False),
        ("num_results", 2**70),
        ("num_results", None),
    ],
)
def test_bad_numbers_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"`{name}`.*{re.escape(str(value))}") as caught:
        beam_search(steady([0.0, 1.0, 2.0]), None, **{**GOOD, name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.zeros((50, 50)), "line\nline", ["long"] * 1000, object(), np.array(["a"])])
def test_any_value_is_refused_on_one_short_line(value):
    for name in ("step_fn", *GOOD, "beam_width", "temperature", "length_penalty", "num_results"):
        options = {"step_fn": steady([0.0, 1.0]), "initial_state": None, **GOOD, name: value}
        with pytest.raises(ValueError, match=f"`{name}` must be") as caught:
            beam_search(**options)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 250


@pytest.mark.parametrize("value", [None, 3, "step", [steady]])
def test_what_cannot_be_called_is_no_step(value):
    with pytest.raises(ValueError, match="`step_fn` must be callable"):
        beam_search(value, None, **GOOD)


def test_batch_sizes_may_be_tensors_that_hold_one_integer():
    result = beam_search(steady([0.0, 1.0]), None, **{**GOOD, "batch_size": ops.convert_to_tensor(2)})
    assert tuple(result.tokens.shape) == (2, 1, 3)
    for bad in (np.array([2], "int32"), np.array(2.0, "float32"), np.array(0, "int32")):
        with pytest.raises(ValueError, match="`batch_size` must be"):
            beam_search(steady([0.0, 1.0]), None, **{**GOOD, "batch_size": ops.convert_to_tensor(bad)})


@pytest.mark.parametrize(("low", "high"), [(1e-60, 1e60), (1e-320, 1e300)])
def test_temperatures_beyond_float32_are_their_limits(low, high):
    logits = [-np.inf, 0.5, 0.25]
    options = {**GOOD, "max_length": 2, "num_results": 4}
    greedy = arrays(beam_search(steady(logits), None, temperature=low, **options))
    np.testing.assert_array_equal(greedy.log_probs[0, 0], 0.0)
    assert (greedy.log_probs[0, 1:] < -1e35).all()
    assert greedy.tokens[0, 0].tolist() == [1, 1]
    uniform = arrays(beam_search(steady(logits), None, temperature=high, **options))
    np.testing.assert_allclose(uniform.log_probs[0], 2 * np.log(0.5), rtol=1e-6)


def test_a_result_shows_its_shapes_and_best_score():
    result = beam_search(steady([0.0, 1.0]), None, **GOOD, num_results=2)
    best = numpy(result.scores).max()
    expected = (
        "BeamSearchResult(tokens: (2, 2, 3), lengths: (2, 2), scores: (2, 2), log_probs: (2, 2), "
        f"best score: {best:.4g})"
    )
    assert repr(result) == repr(arrays(result)) == expected
    assert (
        repr(BeamSearchResult(1, 2, None, "x"))
        == "BeamSearchResult(tokens: 1, lengths: 2, scores: None, log_probs: 'x')"
    )
    tokens, lengths, scores, log_probs = result
    assert tokens is result.tokens
    assert result == (tokens, lengths, scores, log_probs)
    assert result._replace(scores=0).scores == 0


@needs_graph
def test_a_result_of_a_graph_shows_its_shapes():
    shown = []

    def run():
        result = beam_search(steady([0.0, 1.0]), None, **GOOD)
        shown.append(repr(result))
        return result.scores

    compiled(run)()
    assert shown[0].startswith("BeamSearchResult(tokens: (2, 1, 3)")
    assert "best" not in shown[0]


@pytest.mark.parametrize("dtype", [">i4", ">f4", "uint8", "uint16", "uint32", "uint64", "int64", "bool"])
def test_states_of_any_dtype_are_carried(dtype):
    seen = []

    def step(tokens, state):
        seen.append(state)
        return steady([-np.inf, 0.3, 0.1])(tokens, state)

    with uncompiled():
        beam_search(step, {"h": np.array([[1], [0]], dtype)}, **{**GOOD, "beam_width": 2, "max_length": 2})
    np.testing.assert_array_equal(numpy(seen[1]["h"]), [[1], [1], [0], [0]])


@pytest.mark.parametrize("leaf", ["text", np.array(["a", "b"]), np.array([None, None]), np.array([1j, 2.0])])
def test_states_without_numbers_are_refused(leaf):
    with pytest.raises(ValueError, match=r"`initial_state` must hold tensors of numbers.* at h") as caught:
        beam_search(steady([0.0, 1.0]), {"h": leaf}, **GOOD)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"`step_fn` must return a state of tensors of numbers.* at h"):
        beam_search(lambda tokens, state: (ops.zeros((8, 3)), {"h": leaf}), {"h": np.zeros((2, 2))}, **GOOD)
    with pytest.raises(ValueError, match="`step_fn` must return logits that are numbers"):
        beam_search(lambda tokens, state: (leaf, state), None, **GOOD)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.zeros((8, 3), "float32"), "a pair"),
        ((np.zeros((2, 3), "float32"), None), "logits of shape"),
        ((np.zeros((8, 1, 3), "float32"), None), "logits of shape"),
        ((np.zeros((8, 3), "float32"), None), "structure"),
        ((np.zeros((8, 3), "float32"), {"h": np.zeros((8, 5), "float32")}), r"float32 \(8, 5\) after float32 \(8, 4\)"),
        ((np.zeros((8, 3), "float32"), {"h": np.zeros((8, 4), "int32")}), "int32 .* at h"),
    ],
)
def test_bad_steps_are_refused(output, message):
    with pytest.raises(ValueError, match=message):
        beam_search(lambda tokens, state: output, {"h": np.zeros((2, 4), "float32")}, **GOOD)


@pytest.mark.parametrize("state", [np.zeros((3, 4)), {"a": np.zeros((2, 1)), "b": np.zeros(())}])
def test_bad_states_are_refused(state):
    with pytest.raises(ValueError, match=r"`initial_state`.*batch_size"):
        beam_search(steady([0.0, 1.0]), state, **GOOD)


def test_states_are_found_by_name(rng):
    """The order in which a dict was filled means nothing."""
    model = TableModel(rng, 3, 3, 4)
    expected = model.search(beam_width=3)

    def step(tokens, state):
        assert set(state) == {"z", "a"}
        logits, codes = model.step(tokens, {"code": state["z"], "element": state["a"]})
        return logits, {"a": codes["element"], "z": codes["code"]}

    state = {"z": model.state["code"], "a": model.state["element"]}
    assert_same(arrays(beam_search(step, state, 3, START, 0, max_length=4, beam_width=3)), expected, slice(None))


def test_states_may_come_back_in_another_precision_and_hold_none(rng):
    model = TableModel(rng, 2, 4, 4)
    expected = model.search(beam_width=3)

    def step(tokens, state):
        logits, codes = model.step(tokens, state["codes"])
        return logits, {"codes": codes, "half": ops.cast(state["half"], "float16"), "nothing": None}

    state = {"codes": model.state, "half": np.zeros((2, 1), "float32"), "nothing": None}
    result = arrays(beam_search(step, state, 2, START, 0, max_length=4, beam_width=3))
    np.testing.assert_array_equal(result.tokens, expected.tokens)


def test_limits_of_a_narrow_dtype_in_a_graph():
    def step(tokens, state):
        return ops.convert_to_tensor(np.tile([[0.0, 9.0, 0.0]], (2, 1)).astype("float32")), state  # never the end

    def search(limits):
        return beam_search(step, (), 2, 1, 0, max_length=200, beam_width=1, max_lengths=limits).tokens

    tokens = numpy(compiled(search)(ops.convert_to_tensor(np.array([2, 100], "int8"))))
    assert (tokens[:, 0] == 1).sum(axis=-1).tolist() == [2, 100]


@pytest.mark.parametrize(("limits", "steps"), [([20, 8], 3), ([8, 20], 6)])
def test_the_bound_of_an_element_is_over_its_own_limit(limits, steps):
    """The first element ends at once; the second is that of the test of when a search stops, with penalty 1."""
    sure, unsure, later = [0.98, 0.01, 0.01], [0.1, 0.45, 0.45], [0.8, 0.1, 0.1]
    tables, calls = np.log(np.array([sure, later, unsure, later], "float32")), []

    def step(tokens, state):
        calls.append(1)
        element, place = state
        rows = ops.take(ops.convert_to_tensor(tables), 2 * element + ops.minimum(place, 1), axis=0)
        return rows, (element, place + 1)

    state = (np.arange(2, dtype="int32"), np.zeros((2,), "int32"))
    options = {"max_length": 20, "beam_width": 3, "length_penalty": 1.0, "max_lengths": limits}
    with uncompiled():
        result = arrays(beam_search(step, state, 2, 1, 0, **options))
    np.testing.assert_allclose(result.log_probs[:, 0], np.log([0.98, 0.36]), **CLOSE)
    assert len(calls) == steps


@pytest.mark.parametrize("floatx", ["float16", "bfloat16"])
def test_a_half_precision_floatx_changes_nothing(rng, floatx):
    table = rng.standard_normal((301, 301)).astype("float32")

    def search():
        logits = ops.convert_to_tensor(table)
        return beam_search(lambda tokens, state: (ops.take(logits, tokens, axis=0), state), None, 3, 0, 1, 6, 4)

    expected, before = arrays(search()), keras.config.floatx()
    keras.config.set_floatx(floatx)
    try:
        results = [arrays(search()), BeamSearchResult(*map(numpy, compiled(lambda: tuple(search()))()))]
    finally:
        keras.config.set_floatx(before)
    for found in results:
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)
