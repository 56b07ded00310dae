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
from demos.kit.pictures import network_name
from demos.kit.runs import provenance
from demos.sequence import sweep
from demos.sequence.options import LENGTH_PENALTY
from demos.sequence.search import Searcher
from demos.speech.analysis import evaluation, runs
from demos.speech.networks.recogniser import Recogniser

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
        name = f"{network_name(trained.label_smoothing)}, seed {trained.seed}"
        numbers = sweep.sweep(
            Searcher(model, data.tokens, data.max_tokens),
            split,
            options.temperatures,
            options.beam_widths,
            options.beam_width,
            options.length_penalty,
            name,
        )
        sweeps.append({"label_smoothing": trained.label_smoothing, "seed": trained.seed, **numbers})
    report = {"settings": settings, "evaluation": evaluation.RULE, **provenance(), "models": sweeps}
    records.write_json(out / "beam_search.json", report)
    for against in ("temperature", "beam_width"):
        figure = keras_ls.beam_temperature_curves(sweep.curves(sweeps, against), against=against, percent=RATES)
        figure.savefig(out / f"{against}.png")
        print(f"\n{sweep.table(sweeps, against)}")
    print(f"\nResults: {out / 'beam_search.json'}\nPictures: {out / 'temperature.png'}, {out / 'beam_width.png'}")
    return report


if __name__ == "__main__":
    sys.exit(main())
