"""What trained networks are given and measured by: their own α, the training's labels, each split for its purpose."""

import types

import keras
import numpy as np
import pytest

import keras_ls
from demos.kit.runs import Run
from demos.kit.smoothing import Comparison
from demos.sequence import evaluation, training
from demos.sequence.tokenizers import END
from demos.translation import train
from demos.translation.recipe import Recipe


def test_networks_are_trained_with_their_own_smoothing_and_the_labels_of_the_training(tmp_path):
    made = []
    kind = training.Kind(
        build=lambda how, size, precision: (size, precision),
        make_objective=lambda network, how, alpha, labels, **_: made.append((network, alpha, labels.tolist())),
        batches=lambda *_: None,
        first=None,
        score="",
        scores=(),
    )
    data = types.SimpleNamespace(
        splits={"train": types.SimpleNamespace(token_ids=[np.array([2, 3]), np.array([4])])},
        tokens=types.SimpleNamespace(size=9),
    )
    options = train.COMMAND.choose(["--precision", "mixed_bfloat16"])
    experiment = Comparison(options, data, Recipe(), Run(tmp_path, {}))
    training._trial(experiment, kind, 0.3, 7, None).build()
    assert made == [((9, "mixed_bfloat16"), 0.3, [2, 3, END, 4, END])]


class Made(evaluation.Split):
    """Made-up logits; a text is how it was searched for, and its score also says in which split."""

    def __init__(self, name, spread, rng, size=80):
        self.name, self.references = name, [""] * size
        self.y = rng.integers(1, 5, (size, 6))
        self.z = (spread * (np.eye(5)[self.y] + rng.normal(size=(size, 6, 5)))).astype("float32")
        self.y[rng.random((size, 6)) < 0.2] = -1
        self.token_ids = [labels[labels >= 0] for labels in self.y]

    def batches(self):
        yield {"logits": self.z}, self.y, np.arange(len(self.y))

    def search(self, searcher, *how):
        return [how] * len(self.y)

    def text_scores(self, texts):
        return {"rate": (self.name, *texts[0])}

    def nll(self, temperature=1.0):
        log_probs = keras.ops.convert_to_numpy(keras.ops.log_softmax(self.z / temperature))
        own = np.take_along_axis(log_probs, np.maximum(self.y, 0)[..., None], -1)[..., 0]
        return -own[self.y >= 0].mean()


def test_each_split_has_its_purpose_and_each_search_its_width(rng, monkeypatch):
    monkeypatch.setattr(evaluation, "DIAGNOSED_LOGITS", 0)
    dev, test = Made("dev", 4.0, rng), Made("test", 1.0, rng)
    searcher = types.SimpleNamespace(logits=lambda x: x["logits"], tokens=types.SimpleNamespace(size=5))
    numbers, texts = evaluation.evaluate(searcher, dev, test, 7, 0.5)
    fitted = keras_ls.TemperatureScaling().fit(dev.z[dev.y >= 0], dev.y[dev.y >= 0])
    temperature = float(keras.ops.convert_to_numpy(fitted.temperature))
    assert numbers["temperature"] == pytest.approx(temperature, rel=1e-4)
    assert numbers["nll"] == pytest.approx(test.nll(), rel=1e-4)
    assert numbers["nll_scaled"] == pytest.approx(test.nll(temperature), rel=1e-4)
    assert numbers["dev_nll"] == pytest.approx(dev.nll(), rel=1e-4)
    found = {name: value for name, value in numbers.items() if name.endswith("_rate")}
    assert found == {
        "greedy_rate": ("test",),
        "beam_rate": ("test", 7, 1.0, 0.5),
        "dev_greedy_rate": ("dev",),
        "dev_beam_rate": ("dev", 7, 1.0, 0.5),
    }
    assert texts == [(7, 1.0, 0.5)] * 80
