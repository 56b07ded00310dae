"""Lists of texts: what their probabilities are held against, ties and ragged lists included."""

import types

import numpy as np
import pytest

from demos.sequence import lists
from demos.sequence.search import Hypothesis

# The lists of three examples: log p, and the quality of each text.
SCORES = [[-1.0, -2.0, -4.0], [-1.0, -1.5, -2.0], [-0.5, -3.0]]
QUALITY = [[5.0, 9.0, 1.0], [7.0, 3.0, 7.0], [2.0, 1.0]]


def measured(temperatures):
    def hypotheses(x, width, temperature, length_penalty, n_best):
        assert (width, temperature, length_penalty, n_best) == (3, 1.0, 0.0, 3)
        return [[Hypothesis(str(i), score) for i, score in enumerate(SCORES[place])] for place in x]

    split = types.SimpleNamespace(
        batches=lambda: iter([([0, 1], None, [0, 1]), ([2], None, [2])]),
        quality=lambda text, place: QUALITY[place][int(text)],
    )
    return lists.measure(types.SimpleNamespace(hypotheses=hypotheses), split, 3, temperatures)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_probabilities_are_held_against_the_best_text_and_equals_share(temperature):
    found = measured([temperature])
    p = [np.exp(np.array(scores) / temperature) for scores in SCORES]
    p = [of_list / of_list.sum() for of_list in p]
    nll = -(np.log(p[0][1]) + (np.log(p[1][0]) + np.log(p[1][2])) / 2 + np.log(p[2][0])) / 3
    assert found["nll"] == [pytest.approx(nll, rel=1e-5)]
    # The largest probability of each list is in a bin of its own, so that the error is the mean over the lists.
    assert len({int(15 * of_list.max()) for of_list in p}) == 3
    ece = (p[0].max() + abs(p[1].max() - 0.5) + 1 - p[2].max()) / 3
    assert found["ece"] == [pytest.approx(ece, rel=1e-5)]
    assert found["first_is_best"] == pytest.approx((0 + 0.5 + 1) / 3)
    assert sum(found["curve"]["count"]) == pytest.approx(3)
