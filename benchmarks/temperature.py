"""The temperature of 200,000 logits, beside SciPy's minimiser, netcal, probmetrics and PyTorch's L-BFGS."""

import numpy as np

from benchmarks.harness import Bound, Case, Prepared, Subject

SCIPY, NETCAL, PROBMETRICS, LBFGS = "SciPy minimize_scalar", "netcal", "probmetrics", "PyTorch L-BFGS"


def prepare(case, examples, classes):
    """Fits T to logits that are twice as large as they should be."""
    rng = np.random.default_rng(0)
    logits = 2.0 * rng.standard_normal((examples, classes), dtype="float32")
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(-1)
    logits *= 2.0
    fits = {SCIPY: with_scipy, NETCAL: with_netcal, PROBMETRICS: with_probmetrics, LBFGS: with_lbfgs}
    fit = fits.get(case.name, with_keras_ls)(logits, labels)
    return Prepared(fit, logits.nbytes, lambda temperature: {"T": float(temperature)})


def with_keras_ls(logits, labels):
    """Ours, from arrays."""
    import keras_ls

    return lambda: keras_ls.TemperatureScaling().fit(logits, labels).get_weights()[0]


def with_scipy(logits, labels):
    """The mean loss as a function of log T, in NumPy's float32."""
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))

    def loss(log_temperature):
        scaled = logits / np.float32(np.exp(log_temperature))
        scaled -= scaled.max(-1, keepdims=True)
        return np.mean(np.log(np.exp(scaled).sum(-1)) - scaled[rows, labels], dtype="float64")

    bounds = np.log((0.01, 100.0))
    return lambda: np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-5}).x)


def with_netcal(logits, labels):
    """From probabilities, as it takes them; its finite differences need float64."""
    from netcal.scaling import TemperatureScaling

    probabilities = np.exp(logits - logits.max(-1, keepdims=True), dtype="float64")
    probabilities /= probabilities.sum(-1, keepdims=True)

    def fit():
        method = TemperatureScaling()
        method.fit(probabilities, labels)
        given, scaled = probabilities[0], method.transform(probabilities[:1])[0]
        return np.log(given[0] / given[1]) / np.log(scaled[0] / scaled[1])  # it keeps T to itself

    return fit


def with_probmetrics(logits, labels):
    """From log-probabilities."""
    import torch
    from probmetrics.calibrators import TemperatureScalingCalibrator
    from probmetrics.distributions import CategoricalLogits

    rows, targets = CategoricalLogits(torch.from_numpy(logits)), torch.from_numpy(labels)

    def fit():
        calibrator = TemperatureScalingCalibrator()
        calibrator.fit_torch(rows, targets)
        return 1.0 / float(calibrator.invtemp_)

    return fit


def with_lbfgs(logits, labels):
    """What is copied most often: an `nn.Parameter` and L-BFGS at rate 0.01, 50 iterations at most."""
    import torch

    rows, targets = torch.from_numpy(logits), torch.from_numpy(labels)

    def fit():
        temperature = torch.nn.Parameter(torch.ones(1) * 1.5)
        optimizer = torch.optim.LBFGS([temperature], lr=0.01, max_iter=50)

        def closure():
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(rows / temperature, targets)
            loss.backward()
            return loss

        optimizer.step(closure)
        return temperature.item()

    return fit


SUBJECT = Subject(
    title="Temperature scaling",
    about="The temperature that minimises the negative log-likelihood of logits, which is 2 or close to it. PyTorch's "
    "L-BFGS is as it is copied most often, at a rate of 0.01, and stops before the minimum.",
    prepare=prepare,
    size={"examples": 200_000, "classes": 100},
    quick={"examples": 1_000, "classes": 10},
    cases=(
        Case("keras_ls, TensorFlow", "tensorflow", growth=True),
        Case("keras_ls, JAX", "jax"),
        Case("keras_ls, PyTorch", "torch"),
        *(Case(name, "torch") for name in (SCIPY, NETCAL, PROBMETRICS, LBFGS)),
    ),
    bounds=tuple(Bound(f"keras_ls, {name}", 1 / 6, SCIPY) for name in ("TensorFlow", "JAX", "PyTorch")),
    growth={"examples": (50_000, 100_000, 200_000, 400_000), "classes": (10, 100, 1_000)},
    unit="the logits' size",
    together=True,
)
