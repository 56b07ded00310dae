"""A diagnosis as one self-contained page: numbers, findings and diagrams, for screens of any size and for paper."""

import html
import io
import re
from typing import Any

import numpy as np

from keras_ls.diagnosis.estimates import Estimate
from keras_ls.diagnosis.report import Diagnosis, shown_number
from keras_ls.plots import reliability_diagram, risk_coverage

# Colours that pictures are drawn with, and the style's variables that stand for them on the page.
_FOREGROUND, _FAINT, _SERIES = "#010203", "#040506", ("#070809", "#0a0b0c", "#0d0e0f")
_VARIABLES = {_FOREGROUND: "--text", _FAINT: "--faint"}
_VARIABLES |= dict(zip(_SERIES, ("--first", "--second", "--third"), strict=True))
_MOST_BARS = 60
_INCHES = (4.7, 4.7)  # as wide as the reliability diagram, so that all text is of one size
_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --muted: #57606a; --faint: #d0d7de; --page: #ffffff;
  --card: #f6f8fa; --first: #0b62c4; --second: #b45309; --third: #7a3cc0; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --muted: #9aa4ae; --faint: #3a424c; --page: #0d1117;
  --card: #161b22; --first: #6cb0ff; --second: #f0a557; --third: #d2a8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; line-height: 1.25; margin: 0.5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 0.5rem; }
p { margin: 0.3rem 0; }
.muted { color: var(--muted); }
.findings, .diagrams { display: grid; gap: 0.8rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
article, figure { margin: 0; padding: 0.8rem; background: var(--card); border-radius: 0.5rem; break-inside: avoid; }
article h3 { margin: 0; font-size: 0.85rem; font-weight: 600; color: var(--muted); text-transform: capitalize; }
article strong { display: block; font-size: 1.05rem; }
article p { overflow-wrap: anywhere; }
figure svg { width: 100%; height: auto; display: block; }
figcaption { font-size: 0.9rem; color: var(--muted); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.4rem; text-align: right; border-bottom: 1px solid var(--faint); }
th:first-child { text-align: left; }
tbody th { font-weight: normal; }
td:last-child { white-space: nowrap; }
@media (max-width: 30rem) { table { font-size: 0.85rem; } }
@media print { :root { color-scheme: light; --text: #000000; --muted: #444444; --faint: #bbbbbb; --page: #ffffff;
  --card: #ffffff; --first: #0b62c4; --second: #b45309; --third: #7a3cc0; }
  article, figure { border: 1px solid var(--faint); } }
"""


def page_of(diagnosis: Diagnosis) -> str:
    """The page as text.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("`to_html` needs matplotlib, which draws the diagrams: pip install matplotlib") from None
    title = html.escape(diagnosis.title())
    findings = "\n".join(
        f"<article><h3>{html.escape(each.topic)}</h3><strong>{html.escape(each.verdict)}</strong>"
        f"<p>{html.escape(each.text)}</p></article>"
        for each in diagnosis.findings
    )
    rows = "\n".join(_row(name, estimate) for name, estimate in diagnosis.estimates.items())
    notes = "\n".join(f'<p class="muted">{html.escape(note)}</p>' for note in diagnosis.notes)
    level = f"{100 * diagnosis.level:g} %"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p class="muted">Would label smoothing, more or less of it, or a temperature help this model? Intervals: {level}.</p>
<h2>Findings</h2>
<div class="findings">
{findings}
</div>
<h2>Diagrams</h2>
<div class="diagrams">
{_figures(diagnosis)}
</div>
<h2>Numbers</h2>
<table>
<thead><tr><th scope="col">estimate</th><th scope="col">value</th><th scope="col">{level} interval</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
{notes}
</body>
</html>
"""


def _row(name: str, estimate: Estimate) -> str:
    value, low, high = (shown_number(each) for each in (estimate.value, estimate.low, estimate.high))
    shown = html.escape(name).replace("_", "_<wbr>")
    return f'<tr><th scope="row">{shown}</th><td>{value}</td><td>{low} to {high}</td></tr>'


def _figures(diagnosis: Diagnosis) -> str:
    band = " Grey: where a calibrated model would lie by chance." if _counts_are_of_examples(diagnosis) else ""
    drawn = (
        (
            _reliability,
            f"Accuracy against confidence.{band} Below the diagonal, predictions are surer than they are right.",
        ),
        (_ranking, "Errors among the most confident predictions. Dotted: a perfect ranking. Lower is better."),
        (
            _classes,
            "Calibration error of each class: the larger, the farther its probability is from how often it occurs.",
        ),
    )
    return "\n".join(
        f"<figure>{_svg(draw, diagnosis, place, caption)}<figcaption>{caption}</figcaption></figure>"
        for place, (draw, caption) in enumerate(drawn)
    )


def _svg(draw: Any, diagnosis: Diagnosis, place: int, label: str) -> str:
    """A picture as SVG whose colours are variables of the page's style, and whose ids are its own."""
    import matplotlib
    from matplotlib import rcsetup

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "keras_ls",
        "font.family": "sans-serif",
        "font.size": 11,
        "legend.fontsize": 9,
        "axes.prop_cycle": rcsetup.cycler("color", _SERIES),
        "axes.spines.top": False,
        "axes.spines.right": False,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _FOREGROUND),
        "axes.edgecolor": _FAINT,
        "legend.labelcolor": _FOREGROUND,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "legend.framealpha": 0,
    }
    with matplotlib.rc_context(settings):
        figure = draw(diagnosis).figure
        figure.set_facecolor("none")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # names of groups, of which several may be alike
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>d{place}-", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    # Greys and whites of the pictures: grids, guides (six parts of the text's colour, four of white), rims of points.
    text = re.sub(r"(stroke|fill): #(676768|808080|7f7f7f)", r"\1: var(--muted)", text)
    text = re.sub(r"(stroke|fill): #(e5e5e5|e6e6e6)", r"\1: var(--faint)", text)
    text = re.sub(r"(stroke|fill): #ffffff", r"\1: var(--card)", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1)


def _reliability(diagnosis: Diagnosis) -> Any:
    return reliability_diagram(diagnosis.reliability["as given"], band=_counts_are_of_examples(diagnosis))


def _counts_are_of_examples(diagnosis: Diagnosis) -> bool:
    """Whether bins count independent predictions: no positions of sequences, no weights other than 0 and 1."""
    counts = diagnosis.reliability["as given"].count
    is_whole = bool(np.all(counts == np.round(counts)))
    return is_whole and counts.sum() == diagnosis.num_predictions == diagnosis.num_examples


def _ranking(diagnosis: Diagnosis) -> Any:
    ax = risk_coverage(diagnosis.ranking)
    ax.figure.set_size_inches(_INCHES)
    return ax


def _classes(diagnosis: Diagnosis) -> Any:
    from matplotlib.figure import Figure

    ax, errors = Figure(figsize=_INCHES, layout="constrained").add_subplot(), diagnosis.class_errors
    order = np.arange(len(errors))
    if len(errors) > _MOST_BARS:
        order = np.argsort(-errors, kind="stable")[:_MOST_BARS]
    ax.bar(np.arange(len(order)), errors[order], color=_SERIES[0], width=0.8)
    shown = np.unique(np.linspace(0, len(order) - 1, min(len(order), 10)).astype(int))
    label = "Class" if len(order) == len(errors) else f"Class, the {_MOST_BARS} with the largest errors"
    ax.set_xticks(shown, [str(order[place]) for place in shown])
    ax.set(xlabel=label, ylabel="Calibration error", ylim=(0, None))
    return ax
