"""Activations of tokens: each point is of its own token, the clusters are of the frequent ones, words come first."""

import itertools
import types

import numpy as np
import pytest

from demos.sequence import tokens_in_plane

PIECES = ["<s>", "</s>", "<unk>", "▁cat", "▁dog", "s", "▁a", "▁tree"]
TOKENS = types.SimpleNamespace(size=8, pieces=lambda ids=None: [PIECES[i] for i in (range(8) if ids is None else ids)])


def test_points_and_clusters_are_those_of_their_tokens(rng, monkeypatch):
    monkeypatch.setattr(tokens_in_plane, "EXAMPLES", 5)
    monkeypatch.setattr(tokens_in_plane, "FREQUENT", 8)
    vectors = rng.normal(size=(8, 4)).astype("float32")
    ids = rng.permutation(np.repeat([3, 4, 5, 6, 1], [9, 8, 4, 12, 3])).reshape(12, 3)
    y = np.pad(ids, [(0, 0), (0, 1)], constant_values=-1)
    outputs = np.where(y[..., None] < 0, 1e3, vectors[y]).astype("float32")  # each activation is its token's vector
    network = types.SimpleNamespace(penultimate=lambda x: x, token_vectors=vectors)
    split = types.SimpleNamespace(batches=lambda: iter([(outputs, y, None)]))
    found = tokens_in_plane.measure(network, split, TOKENS, [4, 3, 5])
    panel = found["panel"]
    assert np.bincount(panel["labels"], minlength=8).tolist() == [0, 0, 0, 5, 5, 4, 0, 0]
    corners = dict(zip([4, 3, 5], panel["templates_2d"], strict=True))
    np.testing.assert_allclose(panel["points"], [corners[k] for k in panel["labels"]], atol=1e-4)
    assert panel["class_names"] == ["▁dog", "▁cat", "s"]
    assert found["frequent_tokens"] == 4  # 3, 4, 6, and 5 because it is shown
    assert found["within"] == pytest.approx(0, abs=1e-6)
    distances = [np.linalg.norm(vectors[a] - vectors[b]) for a, b in itertools.combinations([3, 4, 5, 6], 2)]
    assert found["template_distance"] == pytest.approx(np.mean(distances), rel=1e-5)


def test_the_most_frequent_words_are_chosen_or_what_is_given():
    labels = np.repeat([1, 3, 4, 5, 6, 7], [20, 4, 6, 9, 8, 5])
    assert tokens_in_plane.choose(labels, TOKENS, []) == [4, 7, 3]
    assert tokens_in_plane.choose(labels[labels != 7], TOKENS, []) == [5, 6, 4]  # two words only
    assert tokens_in_plane.choose(labels, TOKENS, ["dog", "s", "cat"]) == [4, 5, 3]
    assert tokens_in_plane.choose(labels[labels < 5], TOKENS, []) == []  # two, and the end
    assert tokens_in_plane.choose(np.repeat([1, 2, 3, 4], 5), TOKENS, []) == []  # nor is what is unknown a token
    with pytest.raises(ValueError, match="three tokens that occur"):
        tokens_in_plane.choose(labels, TOKENS, ["dog", "dog", "s"])


def test_without_three_tokens_there_is_no_picture():
    assert tokens_in_plane.measure(None, None, TOKENS, []) == {}
    trials = [{"label_smoothing": 0.0, "seed": 0, "tokens": {}}]
    assert tokens_in_plane.figures(trials) == []
    assert "which it does not have" in tokens_in_plane.table(trials)
