"""What the report of a training shows of next tokens: reliability curves over all seeds, and their picture."""

from typing import Any

import keras_ls
from demos.kit import measures
from demos.kit.pictures import network_name

CURVES = ("curve", "curve_scaled")
SPREAD = " (mean ± s.d.)"


def seeds_in_words(seeds: list[int]) -> str:
    """How many there are, and what the numbers of a table are then."""
    return f"{len(seeds)} seeds{SPREAD}" if len(seeds) > 1 else "1 seed"


def series(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each label smoothing the reliability curves of next tokens, before and after temperature scaling."""
    return [
        {"label_smoothing": alpha}
        | {name: measures.curve_to_json(measures.pool(each[name] for each in group)) for name in CURVES}
        for alpha, group in measures.by_smoothing(trials).items()
    ]


def figure(results: dict[str, Any]) -> Any:
    """The reliability of next-token predictions; of hard targets after temperature scaling, too."""
    curves = {}
    for row in results["series"]:
        name = network_name(row["label_smoothing"])
        curves[name] = measures.curve_from_json(row["curve"])
        if row["label_smoothing"] == 0:
            curves[f"{name}, scaled"] = measures.curve_from_json(row["curve_scaled"])
    axes = keras_ls.reliability_diagram(curves)
    axes.set_title(results["title"].removesuffix(SPREAD))
    return axes.figure
