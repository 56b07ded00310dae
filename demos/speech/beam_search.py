"""What temperature and beam width do to the recognisers of a run: the paper's Figure 4 for speech.

WER, CER, ECE and NLL against the temperature that logits are divided by, and WER and CER against the width of the
beam, for every model of the run, on its test split.
"""

import argparse
import pathlib
import sys
from typing import Any

import keras_ls
from demos.kit import cli, records, values
from demos.kit.cli import execute
from demos.kit.measures import by_smoothing, calibration
from demos.kit.runs import provenance
from demos.speech import evaluation, runs
from demos.speech.evaluation import Split
from demos.speech.layers import Recogniser
from demos.speech.pictures import model_name
from demos.speech.search import LENGTH_PENALTY, Searcher

TEMPERATURES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
BEAM_WIDTHS = (1, 2, 4, 8, 16, 32)
RATES = ("wer", "cer")  # shown in %


def main(argv: list[str] | None = None) -> int:
    """Runs the demo; returns the exit status (2 for bad arguments or data)."""
    return execute(make_parser(), argv, plan, run)


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(
        prog="python -m demos.speech.beam_search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--from", dest="run", required=True, metavar="RUN", help="directory that demos.speech.train wrote")
    add(
        "--temperatures",
        type=values.temperature,
        nargs="+",
        default=list(TEMPERATURES),
        metavar="T",
        help=f"(default: {' '.join(f'{t:g}' for t in TEMPERATURES)})",
    )
    add(
        "--beam-widths",
        type=values.count,
        nargs="+",
        default=list(BEAM_WIDTHS),
        metavar="W",
        help=f"at temperature 1 (default: {' '.join(map(str, BEAM_WIDTHS))})",
    )
    add("--beam-width", type=values.count, default=8, metavar="W", help="at all temperatures (default: 8)")
    add(
        "--length-penalty",
        type=values.not_negative,
        default=LENGTH_PENALTY,
        metavar="X",
        help=f"hypotheses compete by log p / tokens**X (default: {LENGTH_PENALTY:g})",
    )
    add("--split", choices=("dev", "test"), default="test", help="(default: test)")
    add("--out", metavar="DIR", help="for results and pictures (default: RUN)")
    add("--data-dir", metavar="PATH", help="where the corpus lies now (default: where it was)")
    add("--cache-dir", metavar="DIR", help="where features are kept (default: as for demos.speech.train)")
    add("--workers", type=values.count, default=2, metavar="N", help="processes that make features (default: 2)")
    return parser


Planned = tuple[argparse.Namespace, list[tuple[runs.Trained, Recogniser]], runs.Data]


def plan(options: argparse.Namespace) -> Planned:
    """Finds the models of the run and its data.

    Raises:
        ValueError: where the run or its data cannot be found, or the data has changed.
    """
    cli.optional("jiwer", runs.PACKAGES["jiwer"], extra="speech")
    for name in ("temperatures", "beam_widths"):
        setattr(options, name, sorted(set(getattr(options, name))))
    out = pathlib.Path(options.run)
    models = [(trained, trained.load()) for trained in runs.trained_models(out)]
    settings = runs.read_settings(out)
    for name in ("data_dir", "cache_dir", "workers"):
        if getattr(options, name) is not None:
            setattr(settings, name, getattr(options, name))
    data = runs.load_data(settings, runs.read_tokens(out), settings.data)
    pathlib.Path(options.out or out).mkdir(parents=True, exist_ok=True)
    return options, models, data


def run(planned: Planned) -> dict[str, Any]:
    """Sweeps and draws; returns what beam_search.json holds."""
    options, models, data = planned
    out = pathlib.Path(options.out or options.run)
    split = data.splits[options.split]
    print(f"{data.name}: {len(split.features)} utterances of the {options.split} split, {len(models)} models.")
    settings = {
        name: getattr(options, name)
        for name in ("temperatures", "beam_widths", "beam_width", "length_penalty", "split")
    }
    sweeps = []
    for trained, model in models:
        name = f"{model_name(trained.label_smoothing)}, seed {trained.seed}"
        sweep = sweep_model(Searcher(model, data.tokens, data.max_frames), split, options, name)
        sweeps.append({"label_smoothing": trained.label_smoothing, "seed": trained.seed, **sweep})
    report = {"settings": settings, "evaluation": evaluation.RULE, **provenance(), "models": sweeps}
    records.write_json(out / "beam_search.json", report)
    for against in ("temperature", "beam_width"):
        figure = keras_ls.beam_temperature_curves(curves(sweeps, against), against=against, percent=RATES)
        figure.savefig(out / f"{against}.png")
        print(f"\n{table(sweeps, against)}")
    print(f"\nResults: {out / 'beam_search.json'}\nPictures: {out / 'temperature.png'}, {out / 'beam_width.png'}")
    return report


def sweep_model(
    searcher: Searcher, split: Split, options: argparse.Namespace, name: str
) -> dict[str, dict[str, list[float]]]:
    """Error rates and calibration of a model against temperature, and error rates against beam width."""
    logits, labels = evaluation.next_tokens(searcher, split)
    by_temperature: dict[str, list[float]] = {key: [] for key in ("temperature", "wer", "cer", "ece", "nll")}
    for temperature in options.temperatures:
        wer, cer = split.error_rates(
            split.transcribe(searcher, options.beam_width, temperature, options.length_penalty)
        )
        numbers = calibration(logits / temperature, labels)
        for key, value in zip(by_temperature, (temperature, wer, cer, numbers["ece"], numbers["nll"]), strict=True):
            by_temperature[key].append(value)
        print(f"{name}: T = {temperature:g}, width {options.beam_width}: WER {100 * wer:.2f} %", flush=True)
    by_width: dict[str, list[float]] = {key: [] for key in ("beam_width", "wer", "cer")}
    for width in options.beam_widths:
        wer, cer = split.error_rates(split.transcribe(searcher, width, 1.0, options.length_penalty))
        for key, value in zip(by_width, (width, wer, cer), strict=True):
            by_width[key].append(value)
        print(f"{name}: T = 1, width {width}: WER {100 * wer:.2f} %", flush=True)
    return {"temperature": by_temperature, "beam_width": by_width}


def curves(sweeps: list[dict[str, Any]], against: str) -> dict[str, dict[str, Any]]:
    """The sweeps as `keras_ls.beam_temperature_curves` takes them: a line an α, over its seeds."""
    lines = {}
    for alpha, group in by_smoothing(sweeps).items():
        lines[model_name(alpha)] = {
            key: values if key == against else [sweep[against][key] for sweep in group]
            for key, values in group[0][against].items()
        }
    return lines


def table(sweeps: list[dict[str, Any]], against: str) -> str:
    """The means over the seeds as a table of text: a row a temperature or width, columns for each α."""
    lines = curves(sweeps, against)
    x = next(iter(lines.values()))[against]
    columns = [[against.replace("_", " "), *(f"{value:g}" for value in x)]]
    for name, quantities in lines.items():
        for key, runs_of in quantities.items():
            if key == against:
                continue
            is_rate = key in RATES
            mean = [sum(values) / len(values) for values in zip(*runs_of, strict=True)]
            title = f"{name}: {key.upper()}{' %' if is_rate else ''}"
            columns.append([title, *(f"{100 * v:.2f}" if is_rate else f"{v:.4f}" for v in mean)])
    return cli.aligned([list(row) for row in zip(*columns, strict=True)])


if __name__ == "__main__":
    sys.exit(main())
