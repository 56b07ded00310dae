"""The result of a diagnosis: numbers, findings, and how they are shown and written."""

import dataclasses
import json
import math
import os
import pathlib
import secrets
import textwrap
from typing import Any

import numpy as np

from keras_ls.calibration.reliability import ReliabilityCurve
from keras_ls.calibration.selective import RiskCoverageCurve
from keras_ls.diagnosis.estimates import Estimate, Finding, shown

_WIDTH = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Diagnosis:
    """What `diagnose` found: `print` it, or write it with `to_json` and `to_html`.

    Attributes:
        estimates: measured numbers with their intervals, by name.
        findings: what they say about label smoothing, each resting on intervals.
        level: the level of the intervals.
        num_examples: how many examples were measured, which is what was resampled.
        num_predictions: how many predictions: of sequences, one for each position that counts.
        num_classes: K.
        class_errors: (K,) calibration error of each class, of which "classwise_ece" is the mean.
        reliability: reliability curves by name: as given, and scaled by temperatures of the other half.
        ranking: risk-coverage curves by name of what predictions are ranked by.
        notes: sentences on what could not be measured, or only in part.
    """

    estimates: dict[str, Estimate]
    findings: tuple[Finding, ...]
    level: float
    num_examples: int
    num_predictions: int
    num_classes: int
    class_errors: np.ndarray
    reliability: dict[str, ReliabilityCurve]
    ranking: dict[str, RiskCoverageCurve]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """One line, not all numbers."""
        verdicts = ", ".join(f"{finding.topic}: {finding.verdict}" for finding in self.findings)
        return f"Diagnosis({self.num_predictions} predictions; {verdicts})"

    def __str__(self) -> str:
        """A table of all numbers, and the findings."""
        name_width = max(map(len, self.estimates))
        lines = [self.title(), "", f"{'':{name_width}}  {'value':>10}  {100 * self.level:g} % interval"]
        for name, estimate in self.estimates.items():
            value, low, high = (shown_number(each) for each in (estimate.value, estimate.low, estimate.high))
            lines.append(f"{name:{name_width}}  {value:>10}  {low:>10} to {high}")
        for finding in self.findings:
            lines += ["", f"{finding.topic}: {finding.verdict}", *_wrapped(finding.text)]
        for note in self.notes:
            lines += ["", *_wrapped(f"Note: {note}")]
        return "\n".join(lines)

    def title(self) -> str:
        """What was measured, in one line."""
        examples = "" if self.num_examples == self.num_predictions else f" of {self.num_examples:,} examples"
        return f"Diagnosis of {self.num_predictions:,} predictions{examples}, {self.num_classes:,} classes"

    def to_json(self, path: Any) -> None:
        """Writes the numbers and findings as JSON, NaN and infinities as null, without the curves in `ranking`.

        A file of that name is replaced in one step.

        Args:
            path: where to.

        Raises:
            OSError: If it cannot be written.
        """
        content = {
            "title": self.title(),
            "level": self.level,
            "num_examples": self.num_examples,
            "num_predictions": self.num_predictions,
            "num_classes": self.num_classes,
            "estimates": {name: dataclasses.asdict(each) for name, each in self.estimates.items()},
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "class_errors": self.class_errors,
            "reliability": {name: dataclasses.asdict(curve) for name, curve in self.reliability.items()},
            "notes": self.notes,
        }
        write_text(path, json.dumps(_plain(content), indent=1, allow_nan=False, ensure_ascii=False) + "\n")

    def to_html(self, path: Any) -> None:
        """Writes one self-contained page with the numbers, the findings, and diagrams as SVG.

        Args:
            path: where to. A file of that name is replaced in one step.

        Raises:
            ImportError: If matplotlib, which draws the diagrams, is not installed.
            OSError: If the page cannot be written.
        """
        from keras_ls.diagnosis.page import page_of

        write_text(path, page_of(self))


def shown_number(number: float) -> str:
    """A number of the table, with a dash for what is not known."""
    if math.isnan(number):
        return "–"
    return shown(number, 4) if abs(number) < 1000 else f"{number:.4g}"


def write_text(path: Any, text: str) -> None:
    """Writes a file in one step: whoever reads it finds the old one or the new one. Devices are written to."""
    try:
        target = pathlib.Path(path)
    except TypeError:
        raise ValueError(f"`path` must be the path of a file. Received: {path!r}.") from None
    is_stream = target.parent in (pathlib.Path("/dev"), pathlib.Path("/dev/fd"))
    if target.exists() and (not target.is_file() or is_stream):
        with open(target, "a", encoding="utf-8") as file:  # /dev/stdout may be a file that holds something
            file.write(text)
        return
    target = target.resolve()  # the file that a link stands for, not the link
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="  ")


def _plain(value: Any) -> Any:
    """The same in JSON's types, null for NaN and infinities."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
