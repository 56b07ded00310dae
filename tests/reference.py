"""Float64 NumPy references, written from the definitions as plain loops and sharing nothing with the package."""

import math

import numpy as np


def smoothed_targets(labels, num_classes, alpha, prior=None):
    """(1 − α)·y + α·u for integer `labels` of any shape: (..., K). `prior` is taken as given (normalised)."""
    labels = np.asarray(labels)
    targets = np.zeros((*labels.shape, num_classes))
    for position in np.ndindex(*labels.shape):
        for k in range(num_classes):
            mass = 1 / num_classes if prior is None else float(prior[k])
            targets[(*position, k)] = (1 - alpha) * (k == int(labels[position])) + alpha * mass
    return targets


def log_softmax(logits, axis=-1):
    """z − max z − log Σ exp(z − max z): the shift keeps every exponential finite."""
    logits = np.asarray(logits, dtype="float64")
    shifted = logits - logits.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def softmax(logits, axis=-1):
    return np.exp(log_softmax(logits, axis))


def cross_entropy(targets, logits, axis=-1):
    """−Σ_k t_k log softmax_k(z): the shape of `logits` less `axis`."""
    terms = np.asarray(targets, dtype="float64") * log_softmax(logits, axis)
    return -terms.sum(axis=axis)


def cross_entropy_of_probabilities(targets, probabilities, axis=-1, epsilon=1e-7):
    """−Σ_k t_k log p_k as Keras has it: p is divided by its sum, then clipped to [ε, 1 − ε]."""
    probabilities = np.asarray(probabilities, dtype="float64")
    probabilities = probabilities / probabilities.sum(axis=axis, keepdims=True)
    clipped = np.clip(probabilities, epsilon, 1 - epsilon)
    return -(np.asarray(targets, dtype="float64") * np.log(clipped)).sum(axis=axis)


def cross_entropy_gradient(targets, logits, axis=-1):
    """d cross_entropy / d logits = softmax(z)·Σ_k t_k − t (the sum is 1 for a distribution)."""
    targets = np.asarray(targets, dtype="float64")
    return softmax(logits, axis) * targets.sum(axis=axis, keepdims=True) - targets


def bin_of(confidence, num_bins):
    """The bin b with b/B < confidence <= (b+1)/B, 0 in the first.

    Both sides are rounded to float32, which keeps their order: a confidence stored as float32(k/B) is k/B.
    """
    for b in range(num_bins - 1):
        if np.float32(confidence) <= np.float32((b + 1) / num_bins):
            return b
    return num_bins - 1


def bin_sums(confidences, hits, num_bins, weights=None):
    """(B, 4) float64: weight, weight·confidence, weight·hit and weight·(hit − confidence)², summed in each bin."""
    weights = np.ones(len(confidences)) if weights is None else weights
    sums = [([], [], [], []) for _ in range(num_bins)]
    for confidence, hit, weight in zip(confidences, hits, weights, strict=True):
        if weight != 0:
            row = sums[bin_of(confidence, num_bins)]
            row[0].append(float(weight))
            row[1].append(float(weight) * float(confidence))
            row[2].append(float(weight) * float(hit))
            row[3].append(float(weight) * (float(hit) - float(confidence)) ** 2)
    return np.array([[math.fsum(column) for column in row] for row in sums])


def error_of_bins(sums, norm="l1"):
    """The calibration error of `bin_sums` in the norm "l1", "l2" or "max"; 0 where nothing was counted."""
    total = math.fsum(row[0] for row in sums)
    if total == 0:
        return 0.0
    result = 0.0
    for weight, confidence, hits, *_ in sums:
        if weight == 0:
            continue
        gap = abs(hits / weight - confidence / weight)
        if norm == "l1":
            result += weight / total * gap
        elif norm == "l2":
            result += weight / total * gap**2
        else:
            result = max(result, gap)
    return math.sqrt(result) if norm == "l2" else result


def expected_calibration_error(labels, probs, num_bins=15, norm="l1", weights=None):
    """Top-label calibration error of (N,) labels and (N, K) probabilities."""
    probs = np.asarray(probs)
    confidences, hits = [], []
    for label, row in zip(labels, probs, strict=True):
        predicted = int(np.argmax(row))
        confidences.append(row[predicted])
        hits.append(predicted == int(label))
    return error_of_bins(bin_sums(confidences, hits, num_bins, weights), norm)


def classwise_calibration_error(labels, probs, num_bins=15, weights=None):
    """Mean over classes of the l1 error of (N, K) probabilities against the indicator of each class."""
    probs = np.asarray(probs)
    errors = []
    for k in range(probs.shape[1]):
        hits = [int(label) == k for label in labels]
        errors.append(error_of_bins(bin_sums(probs[:, k], hits, num_bins, weights)))
    return math.fsum(errors) / len(errors)


def weighted_mean(values, weights=None):
    """Σ w·v / Σ w over the positions whose weight is not 0; 0 where there is none."""
    weights = np.ones(len(values)) if weights is None else weights
    pairs = [(float(v), float(w)) for v, w in zip(values, weights, strict=True) if w != 0]
    if not pairs:
        return 0.0
    return math.fsum(v * w for v, w in pairs) / math.fsum(w for _, w in pairs)


def brier(labels, probs, weights=None):
    """Mean of Σ_k (p_k − y_k)² of (N,) labels and (N, K) probabilities."""
    values = []
    for label, row in zip(labels, probs, strict=True):
        values.append(math.fsum((float(p) - (k == int(label))) ** 2 for k, p in enumerate(row)))
    return weighted_mean(values, weights)


def nll(labels, probs, weights=None, epsilon=1e-7):
    """Mean of −log p_y, p clipped to [ε, 1 − ε] and not renormalised."""
    values = []
    for label, row in zip(labels, probs, strict=True):
        values.append(-math.log(min(max(float(row[int(label)]), epsilon), 1 - epsilon)))
    return weighted_mean(values, weights)


def nll_of_logits(labels, logits, weights=None):
    """Mean of −log softmax_y(z)."""
    logarithms = log_softmax(logits)
    values = [-row[int(label)] for label, row in zip(labels, logarithms, strict=True)]
    return weighted_mean(values, weights)
