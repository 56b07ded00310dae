"""The public contract: arguments, their order and their defaults; what is added comes last and has a default."""

import ast
import inspect
from types import EllipsisType

import pytest

import keras_ls

# "..." stands for a default that may be anything.
CONTRACT = """
smooth_labels(y_true, label_smoothing, prior=None, axis=-1)
smoothed_categorical_crossentropy(y_true, y_pred, label_smoothing=0.1, prior=None, from_logits=False, axis=-1)
smoothed_sparse_categorical_crossentropy(y_true, y_pred, label_smoothing=0.1, prior=None, from_logits=False, ignore_class=None, axis=-1)
SmoothedCategoricalCrossentropy(label_smoothing=0.1, prior=None, from_logits=False, axis=-1, reduction="sum_over_batch_size", name="smoothed_categorical_crossentropy", dtype=None)
SmoothedSparseCategoricalCrossentropy(label_smoothing=0.1, prior=None, from_logits=False, ignore_class=None, axis=-1, reduction="sum_over_batch_size", name="smoothed_sparse_categorical_crossentropy", dtype=None)
label_frequencies(labels, num_classes, ignore_class=None)
neighbourhood_smoothed_targets(labels, num_classes, weights, ignore_class=None)
linear_smoothed_crossentropy(features, kernel, bias, labels, label_smoothing=0.1, prior=None, ignore_class=None, chunk_size=None)
FusedOutput(model, label_smoothing=0.1, prior=None, ignore_class=None, chunk_size=None)
ExpectedCalibrationError(num_bins=15, norm="l1", from_logits=False, ignore_class=None, name="ece", dtype=None)
ClasswiseCalibrationError(num_bins=15, from_logits=False, ignore_class=None, name="classwise_ece")
ClasswiseCalibrationError.per_class(self)
ExpectedCalibrationError.interval(self, level=0.95)
ClasswiseCalibrationError.interval(self, level=0.95)
NegativeLogLikelihood.interval(self, level=0.95)
BrierScore.interval(self, level=0.95)
AreaUnderRiskCoverage(num_bins=1000, from_logits=False, ignore_class=None, name="aurc", dtype=None)
NegativeLogLikelihood(from_logits=False, ignore_class=None, name="nll")
BrierScore(from_logits=False, ignore_class=None, name="brier")
reliability_curve(y_true, y_pred, num_bins=15, from_logits=False, sample_weight=None, ignore_class=None)
ReliabilityCurve.ece(self)
ReliabilityCurve.mce(self)
calibration_error(y_true, y_pred, num_bins=15, norm="l1", binning="uniform", from_logits=False, sample_weight=None, ignore_class=None, debiased=False)
TemperatureScaling(temperature=1.0)
TemperatureScaling.fit(self, logits, labels, sample_weight=None, ignore_class=None)
calibrate(model, x, y=None, batch_size=32, sample_weight=None, ignore_class=None, from_logits=None, output=None)
risk_coverage_curve(y_true, y_pred, from_logits=False, scores=None, sample_weight=None, ignore_class=None)
RiskCoverageCurve.aurc(self)
RiskCoverageCurve.excess_aurc(self)
RiskCoverageCurve.risk_at(self, coverage)
RiskCoverageCurve.coverage_at(self, risk)
logit_norm_scores(logits, p=2.0)
class_templates(model_or_layer)
penultimate_activations(model, x, batch_size=256, output=None)
ClassPlane(templates)
ClassPlane.project(self, activations)
project_classes(model, x, y, classes, examples_per_class=100, seed=0, output=None)
cluster_statistics(activations, labels, templates=None)
neural_collapse(activations, labels, templates=None)
mutual_information(samples)
logit_mutual_information(model, x, y, classes, augment, num_samples=5, examples_per_class=300, batch_size=256, seed=0)
Distiller(teacher, student, temperature=1.0, beta=1.0, student_temperature=None, matching="cross_entropy", temperature_squared=False, teacher_from_logits=..., student_from_logits=...)
teacher_logits(teacher, x, batch_size=256, path=None)
equivalent_smoothing(teacher_probabilities_or_logits, labels, temperature=1.0, from_logits=True)
Calibration(x, y=None, num_bins=15, from_logits=False, log_dir=None, freq=1, temperature_scaling=True, prefix="val_", sample_weight=None, ignore_class=None, output=None)
PenultimateProjection(x, y, classes, log_dir, freq=1, examples_per_class=100, class_names=None, output=None)
EmbeddingProjector(x, log_dir, labels=None, images=None, freq=None, max_examples=10000, output=None)
MutualInformation(x, y, classes, augment, log_dir=None, freq=1, num_samples=5)
diagnose(model, x, y=None, x_train=None, y_train=None, batch_size=256, num_bins=15, level=0.95, num_resamples=1000, seed=0, sample_weight=None, ignore_class=None, from_logits=None, output=None)
diagnose_predictions(y_true, y_pred, num_bins=15, level=0.95, num_resamples=1000, seed=0, sample_weight=None, ignore_class=None, from_logits=False)
Estimate(value, low=..., high=...)
Finding(topic, verdict, text)
Diagnosis.to_json(self, path)
Diagnosis.to_html(self, path)
beam_search(step_fn, initial_state, batch_size, start_token, end_token, max_length, beam_width=4, temperature=1.0, length_penalty=0.0, num_results=1, max_lengths=None, min_length=0)
BeamSearchResult(tokens, lengths, scores, log_probs)
reliability_diagram(curve_or_curves, ax=None)
class_projection(projection, ax=None)
projection_grid(projections)
risk_coverage(curve_or_curves, ax=None)
beam_temperature_curves(curves, figure=None, against="temperature", percent=())
distillation_curves(curves, ax=None)
information_curves(curves, num_examples=None, ax=None)
"""  # noqa: E501


@pytest.mark.parametrize("promised", CONTRACT.split("\n")[1:-1])
def test_is_as_promised(promised):
    call = ast.parse(f"def {promised.replace('.', '__', promised.partition('(')[0].count('.'))}: ...").body[0]
    found = keras_ls
    for name in call.name.split("__"):
        found = getattr(found, name)
    parameters = list(inspect.signature(found).parameters.values())
    wanted = call.args.args
    assert [each.name for each in parameters[: len(wanted)]] == [each.arg for each in wanted]
    defaults = [inspect.Parameter.empty] * (len(wanted) - len(call.args.defaults))
    defaults += [ast.literal_eval(default) for default in call.args.defaults]
    for each, default in zip(parameters, defaults, strict=False):
        assert isinstance(default, EllipsisType) or each.default == default, each
    assert all(
        each.default is not each.empty or each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        for each in parameters[len(wanted) :]
    )


def test_everything_public_but_results_has_a_promise():
    promised = {line.partition("(")[0] for line in CONTRACT.split("\n")[1:-1]}
    results = {*FROZEN.split(), "Projection", "BeamSearchResult", "__version__"}
    assert set(keras_ls.__all__) <= promised | results


FROZEN = "ReliabilityCurve RiskCoverageCurve ClusterStatistics NeuralCollapse Diagnosis Estimate Finding"


@pytest.mark.parametrize("name", FROZEN.split())
def test_what_is_measured_cannot_be_changed(name):
    assert getattr(keras_ls, name).__dataclass_params__.frozen
