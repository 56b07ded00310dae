"""Temperature and beam width swept over, for several models: error rates and calibration, their curves and tables."""

from typing import Any

from demos.kit import cli
from demos.kit.measures import by_smoothing, calibration
from demos.kit.pictures import network_name
from demos.sequence.evaluation import Split, next_tokens
from demos.sequence.search import Searcher

CALIBRATION = ("ece", "nll")
AGAINST = ("temperature", "beam_width")


def sweep(
    searcher: Searcher,
    split: Split,
    temperatures: list[float],
    beam_widths: list[int],
    beam_width: int,
    length_penalty: float,
    label: str,
) -> dict[str, dict[str, list[float]]]:
    """Error rates and calibration of a model against temperature, and error rates against beam width.

    All `temperatures` are tried with `beam_width`, all `beam_widths` at temperature 1; lines of progress begin with
    `label`.
    """
    logits, labels = next_tokens(searcher, split)

    def rates(temperature: float, width: int) -> dict[str, float]:
        found = split.error_rates(split.search(searcher, width, temperature, length_penalty))
        name, rate = next(iter(found.items()))
        print(f"{label}: T = {temperature:g}, width {width}: {name.upper()} {100 * rate:.2f} %", flush=True)
        return found

    by_temperature, by_width = [], []
    for temperature in temperatures:
        numbers = calibration(logits / temperature, labels)
        measured = {name: numbers[name] for name in CALIBRATION}
        by_temperature.append({"temperature": temperature, **rates(temperature, beam_width), **measured})
    for width in beam_widths:
        by_width.append({"beam_width": width, **rates(1.0, width)})
    return {"temperature": _as_lists(by_temperature), "beam_width": _as_lists(by_width)}


def curves(sweeps: list[dict[str, Any]], against: str) -> dict[str, dict[str, Any]]:
    """The sweeps as `keras_ls.beam_temperature_curves` takes them: one line per α, over its seeds."""
    return {
        network_name(alpha): {
            key: values if key == against else [each[against][key] for each in group]
            for key, values in group[0][against].items()
        }
        for alpha, group in by_smoothing(sweeps).items()
    }


def table(sweeps: list[dict[str, Any]], against: str) -> str:
    """The means over the seeds as text: one row per temperature or width, columns for each α; rates in percent."""
    lines = curves(sweeps, against)
    x = next(iter(lines.values()))[against]
    columns = [[against.replace("_", " "), *(f"{value:g}" for value in x)]]
    for name, quantities in lines.items():
        for key, of_seeds in quantities.items():
            if key == against:
                continue
            is_rate = key not in CALIBRATION
            mean = [sum(values) / len(values) for values in zip(*of_seeds, strict=True)]
            title = f"{name}: {key.upper()}{' %' if is_rate else ''}"
            columns.append([title, *(f"{100 * v:.2f}" if is_rate else f"{v:.4f}" for v in mean)])
    return cli.aligned([list(row) for row in zip(*columns, strict=True)])


def _as_lists(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
