"""BLEU and chrF, and how sure their differences are: bootstrap intervals and paired tests; all by sacrebleu."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

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
    sacrebleu()
    from sacrebleu.significance import PairedTest

    rows = []
    for seed, of_seed in translations.items():
        named: list[Any] = [(str(i), texts) for i, (_, texts) in enumerate(of_seed)]
        measured: list[dict[str, Any]] = [{"seed": seed, **facts} for facts, _ in of_seed]
        for name, metric in metrics().items():
            test = PairedTest(named, {name: metric}, [list(references)], "ar", RESAMPLES, RESAMPLES)
            found: list[Any] = list(test()[1].values())[1]  # after the systems' names
            for row, result, (_, texts) in zip(measured, found, of_seed, strict=True):
                # sacrebleu leaves out exchanges that change nothing, such as those of none or all that differ.
                same = result.score == found[0].score or 2.0 ** (1 - sum(map(str.__ne__, texts, of_seed[0][1])))
                p = result.p_value if result.p_value is None else min(1.0, result.p_value + same)
                row[name] = {"score": float(result.score), "half_width": float(result.ci), "p": p}
        rows += measured
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """What `by_seed` gives as text."""
    facts = [name for name in rows[0] if name not in METRICS]
    lines = [[*(name.replace("_", " ") for name in facts), *HEADINGS]]
    for row in rows:
        cells = [f"{row[name]:g}" for name in facts]
        for name in METRICS:
            of = row[name]
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


def sacrebleu() -> Any:
    """The package that measures translations."""
    return cli.optional("sacrebleu", "Measuring translations", extra="translation")
