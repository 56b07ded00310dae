"""Penultimate activations of tokens: three of them in the plane of their vectors, all frequent ones as clusters."""

import dataclasses
from typing import Any

import keras
import numpy as np

import keras_ls
from demos.kit import cli, measures, seeds
from demos.kit.pictures import network_name
from demos.sequence.evaluation import Split
from demos.sequence.tokenizers import IGNORED, UNKNOWN, Subwords

EXAMPLES, FREQUENT = 100, 50  # of each token at most; of a frequent token at least


def choose(labels: np.ndarray, tokens: Subwords, given: list[str]) -> list[int]:
    """The ids of three of the tokens that occur in `labels`, given as pieces or words, or the most frequent words.

    An empty list if no token is given and fewer than three occur 3 times.

    Raises:
        ValueError: If one of those that are given does not occur 3 times.
    """
    counts = np.bincount(labels, minlength=tokens.size)
    pieces = tokens.pieces()
    if not given:
        by_count = [i for i in np.argsort(-counts, kind="stable").tolist() if i > UNKNOWN and counts[i] >= 3]
        words = [i for i in by_count if len(pieces[i]) > 2 and pieces[i][0] == "▁"]
        chosen = (words if len(words) > 2 else by_count)[:3]
        return chosen if len(chosen) == 3 else []
    known = {piece: i for i, piece in enumerate(pieces)}
    ids = [known.get(f"▁{text}", known.get(text, -1)) for text in given]
    for text, i in zip(given, ids, strict=True):
        if i <= UNKNOWN or counts[i] < 3 or ids.count(i) > 1:
            raise ValueError(f"--tokens must be three tokens that occur 3 times or more. Received: {text!r}.")
    return ids


def measure(network: Any, split: Split, tokens: Subwords, classes: list[int]) -> dict[str, Any]:
    """Three tokens' activations in their plane, and how tight the clusters of all frequent tokens are.

    {} if `classes` is empty. The products of the network's `penultimate` with its `token_vectors` are the logits.
    """
    if not classes:
        return {}
    activations, labels = [], []
    for x, y, _ in split.batches():
        outputs = keras.ops.convert_to_numpy(network.penultimate(x)).astype("float32")
        activations.append(outputs[y != IGNORED])
        labels.append(y[y != IGNORED])
    rows, ids = np.concatenate(activations), np.concatenate(labels)
    vectors = keras.ops.convert_to_numpy(network.token_vectors).astype("float64")
    templates = np.concatenate([vectors, np.zeros((len(vectors), 1))], axis=1)
    plane = keras_ls.ClassPlane(templates[classes])
    # Not the first ones: batches begin with the shortest sentences.
    shown = np.concatenate([seeds.of_data().permutation(np.flatnonzero(ids == k))[:EXAMPLES] for k in classes])
    frequent = np.union1d(np.flatnonzero(np.bincount(ids) >= FREQUENT), classes)
    of_frequent = np.isin(ids, frequent)
    statistics = keras_ls.cluster_statistics(rows[of_frequent], ids[of_frequent], templates[frequent])
    points, names = plane.project(rows[shown]), tuple(tokens.pieces(classes))
    projection = keras_ls.Projection(points, ids[shown], plane.templates_2d, names, tuple(classes))
    panel = measures.projection_to_json(projection)
    return {"panel": panel, "frequent_tokens": len(frequent), **dataclasses.asdict(statistics)}


def table(trials: list[dict[str, Any]]) -> str:
    """One row per network: the clusters of frequent tokens."""
    if not all(trial["tokens"] for trial in trials):
        return "Figure 7 needs three tokens that occur 3 times or more in the split, which it does not have."
    rows = [["tokens of", "seed", "frequent tokens", "within", "between", "ratio", "template distance c.v."]]
    for trial in trials:
        of = trial["tokens"]
        numbers = [f"{of[key]:.4g}" for key in ("within", "between", "ratio", "template_distance_cv")]
        rows.append([network_name(trial["label_smoothing"]), str(trial["seed"]), str(of["frequent_tokens"]), *numbers])
    return cli.aligned(rows)


def figures(trials: list[dict[str, Any]]) -> list[Any]:
    """Figure 7, if there is one: a column for each label smoothing, of its first seed."""
    if not all(trial["tokens"] for trial in trials):
        return []
    panels: dict[str, keras_ls.Projection] = {}
    for trial in trials:
        projection = measures.projection_from_json(trial["tokens"]["panel"])
        panels.setdefault(network_name(trial["label_smoothing"]), projection)
    return [keras_ls.projection_grid({"": panels})]
