"""Mutual information from samples, beside the same sum of Gaussians in SciPy."""

import numpy as np

from benchmarks.harness import Bound, Case, Prepared, Subject

OURS, SCIPY = "keras_ls", "SciPy logsumexp of all pairs"


def prepare(case, draws, examples):
    """The estimate of (L, N) samples; memory is counted in the N x N distances of one draw."""
    import keras_ls

    samples = np.random.default_rng(0).standard_normal((draws, examples))
    estimate = keras_ls.mutual_information if case.name == OURS else of_all_pairs
    unit = 8 * examples**2
    return Prepared(lambda: estimate(samples), unit, lambda nats: {"nats": float(nats)})


def of_all_pairs(samples):
    """The definition, with a bandwidth of the average over examples of the variance over draws."""
    from scipy.special import logsumexp

    means, variance = samples.mean(0), samples.var(0).mean()
    exponents = -((samples[:, :, None] - means) ** 2) / (2.0 * variance)
    own = -((samples - means) ** 2) / (2.0 * variance)
    return np.mean(own - (logsumexp(exponents, axis=-1) - np.log(samples.shape[1])))


SUBJECT = Subject(
    title="Mutual information",
    about="The estimate of the paper's section 4 from Monte-Carlo samples of each training example.",
    prepare=prepare,
    size={"draws": 5, "examples": 3_000},
    quick={"draws": 2, "examples": 50},
    cases=(Case(OURS, "tensorflow", growth=True), Case(SCIPY, "tensorflow")),
    bounds=(Bound(OURS, 1.0, SCIPY), Bound(OURS, 1.0, SCIPY, "memory")),
    growth={"examples": (1_000, 3_000, 10_000)},
    unit="the distances of one draw",
)
