"""BLEU and chrF, and how sure their differences are: bootstrap intervals and paired tests by sacrebleu."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np

from demos.kit import cli

RULE = (
    "± is half the width of a 95 % bootstrap interval over the sentences (Koehn 2004); p is two-sided, of paired "
    "random exchange with the first row of a seed (Riezler and Maxwell 2005). Neither knows what other seeds would do."
)
HEADINGS = ("BLEU", "p", "uncased BLEU", "p", "chrF", "p")
RESAMPLES = 1000
METRICS = ("bleu", "bleu_uncased", "chrf")


def by_seed(
    translations: Mapping[int, list[tuple[dict[str, float], list[str]]]], references: Sequence[str]
) -> list[dict[str, Any]]:
    """Several translations of one text for each seed, of which the first is what the others are compared with.

    `translations` has the facts of each translation, the same in number, and its sentences. The row of each has the
    seed, the facts, and of all `METRICS` "score" up to 100, "half_width" and "p", None for the first.
    """
    significance, rows = sacrebleu(".significance"), []
    for seed, of_seed in translations.items():
        named: list[Any] = [(str(i), texts) for i, (_, texts) in enumerate(of_seed)]
        measured: list[dict[str, Any]] = [{"seed": seed, **facts} for facts, _ in of_seed]
        for name, metric in metrics().items():
            test = significance.PairedTest(named, {name: metric}, [list(references)], "ar", RESAMPLES, RESAMPLES)
            # sacrebleu's own leaves out the exchanges that change nothing.
            at_least: Any = lambda those, this: float(np.append(those >= this - 1e-9, True).mean())  # noqa: E731
            with mock.patch.object(significance, "_compute_p_value", at_least):
                found: list[Any] = list(test()[1].values())[1]  # after the systems' names
            for row, result in zip(measured, found, strict=True):
                row[name] = {"score": float(result.score), "half_width": float(result.ci), "p": result.p_value}
        rows += measured
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """What `by_seed` gives as text."""
    facts = [name for name in rows[0] if name not in METRICS]
    lines = [[*(name.replace("_", " ") for name in facts), *HEADINGS]]
    for row in rows:
        cells = [f"{row[name]:g}" for name in facts]
        for of in (row[name] for name in METRICS):
            cells += [f"{of['score']:.2f} ± {of['half_width']:.2f}", "" if of["p"] is None else f"{of['p']:.3f}"]
        lines.append(cells)
    return f"{cli.aligned(lines)}\n\n{RULE}"


@functools.cache
def metrics() -> dict[str, Any]:
    """Those of `METRICS` as sacrebleu defines them (BLEU: 13a, smoothing exp)."""
    package = sacrebleu()
    return dict(zip(METRICS, (package.BLEU(), package.BLEU(lowercase=True), package.CHRF()), strict=True))


def signatures() -> dict[str, str]:
    """What sacrebleu says of how `METRICS` are measured; each must have measured something."""
    return {name: str(metric.get_signature()) for name, metric in metrics().items()}


def sacrebleu(module: str = "") -> Any:
    """The package that measures translations, or a module of it."""
    return cli.optional(f"sacrebleu{module}", "Measuring translations", extra="translation")
