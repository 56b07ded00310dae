"""Turns audio files into text with a recogniser that demos.speech.train has trained.

Files may have any common format, sample rate, number of channels and length: those longer than what the recogniser
learned from are read piece by piece, and cut where it is quiet. A line of output is the file, the score and the text,
with tabs between them. A score is the mean log p of a token in nats, unless --length-penalty says otherwise; that of a
file is the mean of its pieces'.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from demos.kit import cli, values
from demos.kit.cli import execute
from demos.sequence import tokenizers
from demos.sequence.options import LENGTH_PENALTY
from demos.sequence.search import Hypothesis, Searcher
from demos.speech.analysis import runs
from demos.speech.networks.recogniser import encoded_lengths
from demos.speech.sound import audio, features
from demos.speech.sound.features import REDUCTION

# Bounds of the longest piece, which is as long as the longest utterance of the training, in seconds.
SHORTEST_LIMIT, LONGEST_LIMIT = 1.0, 30.0
STANDARD_INPUT = "-"


@dataclasses.dataclass(frozen=True)
class Transcriber:
    """All that turns waveforms into text.

    Attributes:
        searcher: of the model.
        statistics: what features are normalised by, None for each piece's own.
        max_seconds: of the longest piece.
        options: the command line.
    """

    searcher: Searcher
    statistics: np.ndarray | None
    max_seconds: float
    options: argparse.Namespace

    def hypotheses(self, waveform: np.ndarray) -> list[Hypothesis]:
        """The best texts of a waveform (n,) at 16 kHz, best first."""
        frames = features.normalise(features.log_mel(waveform), self.statistics)
        options = self.options
        padded = np.pad(frames, [(0, -len(frames) % REDUCTION), (0, 0)])
        return self.searcher.hypotheses(
            {"features": padded[None], "num_frames": [len(frames)]},
            options.beam_width,
            options.temperature,
            options.length_penalty,
            options.n_best,
        )[0]

    def pieces(self, name: str) -> Iterator[dict[str, Any]]:
        """The pieces of a file: "start" in seconds, "duration", and "hypotheses" as dicts of "text" and "score".

        Raises:
            demos.speech.sound.audio.AudioError: for bad audio.
        """
        is_input = name == STANDARD_INPUT
        source = sys.stdin.buffer if is_input else name
        for start, waveform in audio.segments(source, self.max_seconds, "standard input" if is_input else None):
            found = self.hypotheses(waveform)
            yield {
                "start": round(start, 3),
                "duration": round(len(waveform) / audio.SAMPLE_RATE, 3),
                "hypotheses": [{"text": text, "score": round(score, 4)} for text, score in found],
            }


def main(argv: list[str] | None = None) -> int:
    """Runs the demo; returns the exit status (2 for bad arguments, 1 where a file could not be read)."""
    failed: list[str] = []
    try:
        status = execute(make_parser(), argv, plan, lambda transcriber: run(transcriber, failed))
    except BrokenPipeError:  # whoever read the output has had enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 1 if failed else status


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(
        prog="python -m demos.speech.transcribe",
        description=__doc__,
        epilog="A file that cannot be used gives one line on standard error; the others go on, and the status is 1.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        metavar="FILE",
        help="audio of any common format (M4A, AAC, WebM, WMA and AMR by ffmpeg); - for standard input",
    )
    add("--from", dest="run", required=True, metavar="RUN", help="directory that demos.speech.train wrote")
    add(
        "--label-smoothing",
        type=values.fraction,
        metavar="α",
        help="of the model (default: the model with the lowest WER on the development split)",
    )
    add("--seed", type=values.seed, metavar="N", help="of the model")
    add("--beam-width", type=values.count, default=8, metavar="W", help="1 is greedy (default: 8)")
    add(
        "--temperature", type=values.temperature, default=1.0, metavar="T", help="logits are divided by it (default: 1)"
    )
    add(
        "--length-penalty",
        type=values.not_negative,
        default=LENGTH_PENALTY,
        metavar="X",
        help=f"scores are log p / tokens**X (default: {LENGTH_PENALTY:g})",
    )
    add("--n-best", type=values.count, default=1, metavar="N", help="texts a piece of audio (default: 1)")
    add("--json", action="store_true", help="a line of JSON a file, with its pieces' starts, texts and scores")
    return parser


def plan(options: argparse.Namespace) -> Transcriber:
    """Loads the model.

    Raises:
        ValueError: where arguments do not fit, or the run has no such model.
    """
    if options.n_best > options.beam_width:
        raise ValueError(
            f"--n-best must be at most --beam-width ({options.beam_width}). Received: --n-best {options.n_best}."
        )
    if STANDARD_INPUT in options.files and sys.stdin is None:
        raise ValueError("Standard input is closed.")
    for package in ("soundfile", "librosa", "soxr"):
        cli.optional(package, runs.PACKAGES[package], extra="speech")
    out = pathlib.Path(options.run)
    model = choose(runs.trained_models(out), options.label_smoothing, options.seed).load()
    known: tokenizers.Tokens = runs.read_tokens(out)
    statistics, max_frames = runs.read_features(out)
    max_seconds = min(max(SHORTEST_LIMIT, max_frames / 100), LONGEST_LIMIT)
    searcher = Searcher(model, known, encoded_lengths(features.num_frames(int(max_seconds * audio.SAMPLE_RATE))))
    return Transcriber(searcher, statistics, max_seconds, options)


def choose(models: list[runs.Trained], alpha: float | None, seed: int | None) -> runs.Trained:
    """The model asked for; where that leaves several, the best of them on the development split.

    Raises:
        ValueError: where there is no such model.
    """
    fitting = [model for model in models if alpha in (None, model.label_smoothing) and seed in (None, model.seed)]
    if not fitting:
        there = ", ".join(f"α = {model.label_smoothing:g} seed {model.seed}" for model in models)
        raise ValueError(f"--label-smoothing and --seed must be those of a trained model: {there}.")
    return runs.best_model(fitting)


def run(transcriber: Transcriber, failed: list[str]) -> None:
    """Prints what each file says; adds to `failed` those that could not be read."""
    options = transcriber.options
    for name in options.files:
        try:
            pieces = list(transcriber.pieces(name))
            for line in json_lines(name, pieces) if options.json else text_lines(name, pieces, options.n_best):
                print(line, flush=True)
        except ValueError as error:
            failed.append(name)
            print(" ".join(str(error).split()), file=sys.stderr, flush=True)


def text_lines(name: str, pieces: list[dict[str, Any]], n_best: int) -> Iterator[str]:
    """A line for the whole file; with several texts, a line for each of each piece."""
    if n_best == 1:
        text, score = whole(pieces)
        yield f"{name}\t{score:.2f}\t{text}"
        return
    for piece in pieces:
        for hypothesis in piece["hypotheses"]:
            yield f"{name} {piece['start']:.2f} s\t{hypothesis['score']:.2f}\t{hypothesis['text']}"


def json_lines(name: str, pieces: list[dict[str, Any]]) -> Iterator[str]:
    """A line of JSON: the file, its best text and score, and its pieces."""
    text, score = whole(pieces)
    yield json.dumps({"file": name, "text": text, "score": round(score, 4), "pieces": pieces}, ensure_ascii=False)


def whole(pieces: list[dict[str, Any]]) -> tuple[str, float]:
    """The best texts of all pieces as one, and their mean score."""
    best = [piece["hypotheses"][0] for piece in pieces]
    text = " ".join(hypothesis["text"] for hypothesis in best if hypothesis["text"])
    return text, sum(hypothesis["score"] for hypothesis in best) / len(best)


if __name__ == "__main__":
    sys.exit(main())
