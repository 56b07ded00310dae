"""What measured intervals say about label smoothing, in plain words that never go beyond them."""

import math
from collections.abc import Mapping

import numpy as np

from keras_ls.diagnosis.estimates import Estimate, Finding

CANNOT_TELL = "cannot tell"
# Inside this range of temperatures a model counts as calibrated.
CALIBRATED = (0.9, 1.1)
# Nats per prediction, below which a gain in likelihood is not worth a temperature.
SMALLEST_GAIN = 0.01
# A limit of α below which no smoothing is worth trying.
SMALLEST_SMOOTHING = 0.005
# Spread of classes over their distances below which clusters count as tight, and how far cosines may be off a simplex.
TIGHT, EQUAL_ANGLES = 0.1, 0.1
# Mass on wrong classes below which a teacher's targets are hardly more than labels.
HARD_TARGETS = 0.01
_SHOWN_CLASSES = 5


def find(
    estimates: Mapping[str, Estimate], num_classes: int, class_errors: np.ndarray, class_limits: np.ndarray | None
) -> tuple[Finding, ...]:
    """All findings, in the order in which a reader wants them.

    Args:
        estimates: by name.
        num_classes: K.
        class_errors: (K,) calibration error of each class.
        class_limits: (K,) lower limits of these that hold together, or None if they were not computed.
    """
    found = [
        _confidence(estimates),
        _temperature(estimates),
        _smoothing(estimates, num_classes),
        _classes(estimates, class_errors, class_limits),
        _ranking(estimates, num_classes),
    ]
    if "cdnv" in estimates:
        found += [_clusters(estimates, num_classes), _teaching(estimates)]
    return tuple(found)


def confidence_verdict(temperature: Estimate) -> str:
    """The verdict on confidence that an interval of the temperature allows."""
    if temperature.low > 1:
        return "over-confident"
    if temperature.high < 1:
        return "under-confident"
    return "calibrated" if _is_near_one(temperature) else CANNOT_TELL


def _is_near_one(temperature: Estimate) -> bool:
    return CALIBRATED[0] <= temperature.low and temperature.high <= CALIBRATED[1]


def _costs_little(estimates: Mapping[str, Estimate]) -> bool:
    loss = estimates["calibration_loss"]  # far below 0 the halves' temperatures were bad, and say nothing
    return loss.high < SMALLEST_GAIN and loss.value > -SMALLEST_GAIN


def _confidence(estimates: Mapping[str, Estimate]) -> Finding:
    temperature, verdict = estimates["temperature"], confidence_verdict(estimates["temperature"])
    measured = f"The temperature that fits best is {temperature}, and the calibration error {estimates['ece']}."
    said = {
        "over-confident": "Predictions are surer than they are right; the next findings say whether a temperature or "
        "label smoothing would help.",
        "under-confident": "Predictions are right more often than they say; the next finding says whether a "
        "temperature would help.",
        "calibrated": "On the whole, predictions are as sure as they are right. Leave their confidence as it is.",
        CANNOT_TELL: "The interval holds 1 but is too wide to call the model calibrated. Measure on more data.",
    }
    if estimates["ece"].low > 0:
        said["calibrated"] = (
            "One temperature for all has little to mend, yet some predictions are surer than they are right, or less "
            "sure: look at the reliability diagram."
        )
    if verdict.endswith("-confident") and (_is_near_one(temperature) or _costs_little(estimates)):
        than = "more" if verdict == "over-confident" else "less"
        said[verdict] = (
            f"Predictions are a little {than} sure than they are right, by too little to matter in most uses."
        )
    return Finding("confidence", verdict, f"{measured} {said[verdict]}")


def _temperature(estimates: Mapping[str, Estimate]) -> Finding:
    loss, left, nll = estimates["calibration_loss"], estimates["ece_scaled"], estimates["nll"]
    measured = f"One temperature, fitted on the other half of the data, takes {loss} nats off the NLL of {nll}"
    after = f"and leaves a calibration error of {left}."
    if _costs_little(estimates):
        if left.low > 0:
            advice = "There is next to nothing for a temperature to repair, though predictions are not calibrated."
        else:
            advice = "There is next to nothing for a temperature to repair."
        return Finding("temperature", "not needed", f"{measured} {after} {advice}")
    if loss.low > 0:
        if left.low > 0:
            advice = "Scale, and expect an error that no single temperature repairs."
            return Finding("temperature", "helps in part", f"{measured} {after} {advice}")
        advice = "Scale: what is left may be chance."
        return Finding("temperature", "helps", f"{measured} {after} {advice}")
    return Finding("temperature", CANNOT_TELL, f"{measured} {after} Whether scaling helps needs more data.")


def _smoothing(estimates: Mapping[str, Estimate], num_classes: int) -> Finding:
    temperature, accuracy = estimates["temperature"], estimates["accuracy"]
    verdict = confidence_verdict(temperature)
    fits = f"The temperature that fits best is {temperature}"
    if _is_near_one(temperature):
        text = f"{fits}. For the sake of calibration there is nothing to smooth; accuracy may be another reason."
        return Finding("smoothing", "not needed", text)
    if verdict == "over-confident":
        ece = estimates["ece"]
        largest, least, most = (
            _largest_smoothing(accuracy, error, num_classes) for error in (ece.value, ece.low, ece.high)
        )
        largest = min(largest, most)  # the interval need not hold the value
        if accuracy.low <= 1.0 / num_classes:
            text = f"An accuracy of {accuracy} may be no better than chance: look at the labels and their order first."
            return Finding("smoothing", CANNOT_TELL, text)
        if _costs_little(estimates):
            text = f"{fits}, above 1, but a temperature would gain so little that smoothing may cost more."
            return Finding("smoothing", "not needed", text)
        if most < SMALLEST_SMOOTHING:
            text = f"{fits}, above 1, but for this accuracy ({accuracy}) the calibration error ({ece}) is too small."
            return Finding("smoothing", "not needed", f"{text} Even an α of {SMALLEST_SMOOTHING} may raise it: scale.")
        if largest < SMALLEST_SMOOTHING:
            text = f"{fits}, above 1, but the calibration error ({ece}) may be too small for smoothing to lower it."
            return Finding("smoothing", CANNOT_TELL, f"{text} Scale, or measure on more data.")
        text = (
            f"{fits}, above 1, as smoothing would lower it. Try an α of at most {largest:.3f} beside scaling alone: a "
            f"model of this accuracy ({accuracy}) and calibration error ({ece}) may end up under-confident with more."
        )
        text += f" By the interval of that error the limit is {least:.3f} to {most:.3f}."
        if ece.low <= 0:
            text += " The error may be chance, and so may the limit."
        return Finding("smoothing", "worth trying", text)
    if verdict == "under-confident":
        if _costs_little(estimates):
            text = f"{fits}, below 1, but by too little to matter. More smoothing would make the model still less sure."
            return Finding("smoothing", "not needed", text)
        text = (
            f"{fits}, below 1: the model already behaves as if its labels had been smoothed more than they need be. "
            "More smoothing would make it still less sure."
        )
        return Finding("smoothing", "as if smoothed", text)
    return Finding("smoothing", CANNOT_TELL, f"{fits}, which does not say on which side of 1 it lies.")


def _largest_smoothing(accuracy: Estimate, ece: float, num_classes: int) -> float:
    """The label smoothing beyond which an over-confident model may end up under-confident.

    Smoothed targets keep confidence below 1 − α + α/K, which must not be less than the accuracy. Within that, what
    predicted a lower calibration error in the measurements of docs/decisions.md: an error above 2α(accuracy − 1/K).
    """
    largest = (1.0 - accuracy.low) * num_classes / (num_classes - 1)
    above_chance = max(0.0, accuracy.value - 1.0 / num_classes)
    return min(1.0, largest, ece / (2.0 * above_chance) if above_chance else 1.0)


def _classes(estimates: Mapping[str, Estimate], class_errors: np.ndarray, class_limits: np.ndarray | None) -> Finding:
    if class_limits is None:
        text = (
            f"The mean calibration error of the classes is {estimates['classwise_ece'].value:.4f}, without intervals."
        )
        return Finding("classes", CANNOT_TELL, text)
    measured = f"The mean calibration error of the classes is {estimates['classwise_ece']}."
    off = np.flatnonzero(class_limits > 0)
    if not len(off):
        text = f"{measured} No class is shown to be off, all of them tested at once."
        return Finding("classes", "none shown to be off", text)
    worst = off[np.argsort(-class_limits[off], kind="stable")][:_SHOWN_CLASSES]
    named = ", ".join(f"{k} ({class_errors[k]:.3f}, at least {class_limits[k]:.3f})" for k in worst)
    more = f" and {len(off) - len(worst)} more" if len(off) > len(worst) else ""
    temperature = estimates["temperature"]
    is_small = _is_near_one(temperature) or _costs_little(estimates)
    is_general = confidence_verdict(temperature).endswith("-confident") and not is_small
    advice = (
        "Part of it is what all classes share: scale first, and measure again."
        if is_general
        else "Look at their labels and their share of the training data."
    )
    text = f"{measured} Beyond chance, all {len(class_errors)} tested at once, are classes {named}{more}. {advice}"
    return Finding("classes", f"{len(off)} off", text)


def _ranking(estimates: Mapping[str, Estimate], num_classes: int) -> Finding:
    excess, change = estimates["excess_aurc"], estimates["aurc_logit_norm_change"]
    right = estimates["accuracy"].value
    at_random = right * abs(math.log(right)) if right > 0 else 0.0  # above a perfect ranking, for many examples
    measured = (
        f"Ranking by the largest probability has an AURC {excess} above that of a perfect ranking; a random one would "
        f"be {at_random:.4f} above."
    )
    if num_classes < 3:
        text = f"{measured} Of two classes, normalised logits rank all predictions alike."
        return Finding("ranking", "no better ranking found", text)
    changed = f"Normalised logits change the AURC by {change}"
    if change.high < 0:
        advice = (
            "they rank errors better. To reject predictions by confidence, rank by `logit_norm_scores`, of the order p "
            "that has the lowest AURC on held-out data."
        )
        return Finding("ranking", "normalised logits rank better", f"{measured} {changed}: {advice}")
    if change.low > 0:
        text = f"{measured} {changed}: rank by the largest probability, not by those."
        return Finding("ranking", "probability ranks better", text)
    if change.low == change.high == 0:
        text = f"{measured} No norm of the logits ranked better on either half: rank by the largest probability."
        return Finding("ranking", "no better ranking found", text)
    if math.isnan(change.low):
        return Finding(
            "ranking", CANNOT_TELL, f"{measured} {changed}: too few examples, or too few that are right, or wrong."
        )
    return Finding("ranking", CANNOT_TELL, f"{measured} {changed}, which may be chance.")


def _clusters(estimates: Mapping[str, Estimate], num_classes: int) -> Finding:
    spread, angle, agreement = (estimates[name] for name in ("cdnv", "means_angle", "nearest_mean_agreement"))
    measured = (
        f"The spread of classes over their squared distances is {spread}, and {agreement} of the training examples lie "
        "nearest to the mean of the predicted class."
    )
    has_angles = math.isfinite(angle.high)
    if has_angles:
        measured += f" Cosines between class means are {angle} off those of a simplex."
    if not math.isfinite(spread.high):
        return Finding("clusters", CANNOT_TELL, measured)
    if spread.high < TIGHT:
        if has_angles and angle.high < EQUAL_ANGLES:
            text = f"{measured} Tight and equally distant: what smoothing, and long training without it, lead to."
            return Finding("clusters", "collapsed", text)
        return Finding("clusters", "tight", f"{measured} Examples of a class are hardly told apart any more.")
    if spread.low > TIGHT:
        return Finding("clusters", "spread out", f"{measured} Examples of a class are still told apart.")
    return Finding("clusters", CANNOT_TELL, measured)


def _teaching(estimates: Mapping[str, Estimate]) -> Finding:
    gamma, spread = estimates["gamma"], estimates["cdnv"]
    measured = f"On training data, predictions amount to labels smoothed with γ = {gamma} at a temperature of 1."
    if gamma.high < HARD_TARGETS:
        text = f"{measured} They say hardly more than the labels: distil at a higher temperature, if at all."
        return Finding("teaching", "little at temperature 1", text)
    if spread.high < TIGHT:
        text = (
            f"{measured} But the clusters are tight, so that all examples of a class teach much the same. Compare the "
            "student with one trained on labels smoothed with α = γ, or distil from a teacher of hard targets."
        )
        return Finding("teaching", "much the same for a whole class", text)
    if gamma.low > HARD_TARGETS and spread.low > TIGHT:
        text = f"{measured} Examples differ. A student must beat one that is trained on labels smoothed with α = γ."
        return Finding("teaching", "may teach", text)
    return Finding("teaching", CANNOT_TELL, measured)
