"""How sure differences of BLEU and chrF are: bootstrap intervals and paired tests, as sacrebleu has them."""

from collections.abc import Mapping, Sequence
from typing import Any

from demos.kit import cli
from demos.translation.analysis import data

RULE = (
    "± is half the width of a 95 % bootstrap interval over the sentences (Koehn 2004); p is of the paired bootstrap "
    "test against the first row of a seed. Neither knows how much networks of other seeds would differ."
)
HEADINGS = ("BLEU", "p", "uncased BLEU", "p", "chrF", "p")
RESAMPLES = 1000
METRICS = ("bleu", "bleu_uncased", "chrf")


def by_seed(
    translations: Mapping[int, list[tuple[dict[str, float], list[str]]]], references: Sequence[str]
) -> list[dict[str, Any]]:
    """Several translations of one text for each seed, of which the first is what the others are held against.

    Args:
        translations: The facts of each translation, the same in number, and its sentences, by seed.
        references: The correct sentences.

    Returns:
        For each the seed, the facts, and of each of `METRICS` "score", "half_width" and "p", None for the first of a
        seed; on sacrebleu's scale up to 100.
    """
    rows = []
    for seed, of_seed in translations.items():
        compared = compare([texts for _, texts in of_seed], references)
        rows += [{"seed": seed, **facts, **row} for (facts, _), row in zip(of_seed, compared, strict=True)]
    return rows


def compare(systems: Sequence[list[str]], references: Sequence[str]) -> list[dict[str, Any]]:
    """The measures of lists of translations, and how sure it is that each differs from the first."""
    data.sacrebleu()
    from sacrebleu.significance import PairedTest

    named: list[Any] = [(str(i), texts) for i, texts in enumerate(systems)]
    rows: list[dict[str, Any]] = [{} for _ in systems]
    for name, metric in zip(METRICS, (data.bleu(), data.bleu(lowercase=True), data.chrf()), strict=True):
        test = PairedTest(named, {name: metric}, [list(references)], test_type="bs", n_samples=RESAMPLES)
        found: list[Any] = list(test()[1].values())[1]  # after the systems' names
        for row, result in zip(rows, found, strict=True):
            row[name] = {"score": result.score, "half_width": result.ci, "p": result.p_value}
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
