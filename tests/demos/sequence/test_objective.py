"""The loss of next tokens with every kind of smoothing, against targets that are written out."""

import types

import keras
import numpy as np
import pytest
from harness import value_and_gradient
from keras import ops

from demos.sequence.objective import TokenObjective, token_loss
from demos.sequence.options import SMOOTHING_KINDS


class TestTokenLoss:
    LABELS = np.array([[2, 3, 1, -1], [4, 1, -1, -1]], "int32")
    ALL = np.array([2, 3, 1, 4, 1, 2, 2])

    def reference(self, kind, alpha, logits):
        """Mean cross-entropy over the five labels, from targets written out."""
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        losses = []
        for row, labels in zip(log_probs.astype("float64"), self.LABELS, strict=True):
            ids = [int(k) for k in labels if k >= 0]
            for t, k in enumerate(ids):
                target = np.zeros(5)
                if kind == "neighbourhood":
                    for distance, share in ((1, 0.7), (2, 0.3)):
                        for neighbour in (t - distance, t + distance):
                            target[ids[neighbour] if 0 <= neighbour < len(ids) else k] += alpha * share / 2
                elif kind == "unigram":
                    target += alpha * np.bincount(self.ALL, minlength=5) / len(self.ALL)
                else:
                    target += alpha / 5
                target[k] += 1 - alpha
                losses.append(-target @ row[t])
        return np.mean(losses)

    @pytest.mark.parametrize("alpha", [0.0, 0.1, 0.4])
    @pytest.mark.parametrize("kind", SMOOTHING_KINDS)
    def test_equals_its_definition(self, rng, kind, alpha):
        logits = rng.normal(size=(2, 4, 5)).astype("float32") * 3
        loss = token_loss(kind, alpha, 5, self.ALL)
        value, gradient = value_and_gradient(lambda z: loss(self.LABELS, z), logits)
        assert value == pytest.approx(self.reference(kind, alpha, logits), rel=1e-5)
        assert np.abs(gradient[self.LABELS < 0]).max() == 0
        assert np.abs(gradient[self.LABELS >= 0]).min() > 0


LABELS = TestTokenLoss.LABELS


def objective_of(table, fused_output=False, kind="uniform"):
    """An objective of a network whose logits are the outputs times a table (D, V)."""
    table = ops.convert_to_tensor(table)
    network = types.SimpleNamespace(logits=lambda outputs: ops.matmul(outputs, table), head=lambda: (table, None))
    return TokenObjective(network, token_loss(kind, 0.1, 5, TestTokenLoss.ALL), fused_output)


@pytest.mark.parametrize("kind", SMOOTHING_KINDS)
@pytest.mark.parametrize("drops", [True, False])
def test_what_has_no_label_takes_no_part(rng, monkeypatch, kind, drops):
    if not drops:
        monkeypatch.setattr(TokenObjective, "_may_drop_rows", lambda self: False)
    outputs, table = rng.normal(size=(2, 4, 3)).astype("float32"), rng.normal(size=(3, 5)).astype("float32")
    objective = objective_of(table, kind=kind)
    value, gradient = value_and_gradient(lambda x: objective.loss_of_tokens(LABELS, x), outputs)
    assert value == pytest.approx(TestTokenLoss().reference(kind, 0.1, outputs @ table), rel=1e-5)
    assert np.abs(gradient[LABELS < 0]).max() == 0
    assert np.abs(gradient[LABELS >= 0]).min() > 0
    hits = (outputs @ table).argmax(-1)[LABELS >= 0] == LABELS[LABELS >= 0]
    objective.accuracy.reset_state()
    objective.loss_of_tokens(LABELS, ops.convert_to_tensor(outputs))
    assert float(objective.accuracy.result()) == pytest.approx(hits.mean(), rel=1e-6)
    if kind != "neighbourhood":
        fused = objective_of(table, True, kind).loss_of_tokens(ops.convert_to_tensor(LABELS), outputs)
        assert float(fused) == pytest.approx(value, rel=1e-5)
    assert objective._may_drop_rows() == (drops and kind != "neighbourhood" and keras.backend.backend() == "tensorflow")
