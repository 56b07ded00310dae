"""Audio files to text: what demos.speech.transcribe does."""

import dataclasses
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from demos.kit import cli
from demos.kit.options import Chosen
from demos.sequence import tokenizers
from demos.sequence.earlier import choose
from demos.sequence.search import Hypothesis, Searcher
from demos.speech.analysis import SOUND, earlier
from demos.speech.networks.recognisers import encoded_lengths
from demos.speech.sound import audio, features

# Bounds of the longest piece, which is as long as the longest utterance of the training, in seconds.
SHORTEST_LIMIT, LONGEST_LIMIT = 1.0, 30.0
STANDARD_INPUT = "-"


@dataclasses.dataclass(frozen=True)
class Transcriber:
    """All that turns waveforms into text."""

    searcher: Searcher  # the network's
    statistics: np.ndarray | None  # those that features are normalised by, None for each piece's own
    max_seconds: float  # the length of the longest piece
    options: Chosen  # the command line

    def hypotheses(self, waveform: np.ndarray) -> list[Hypothesis]:
        """The best texts of a waveform (n,) at 16 kHz, best first."""
        frames = features.normalise(features.log_mel(waveform), self.statistics)
        padded = np.pad(frames, [(0, -len(frames) % features.REDUCTION), (0, 0)])
        inputs = {"features": padded[None], "num_frames": [len(frames)]}
        how = self.options.beam_width, self.options.temperature, self.options.length_penalty, self.options.n_best
        return self.searcher.hypotheses(inputs, *how)[0]

    def pieces(self, name: str) -> Iterator[dict[str, Any]]:
        """The pieces of a file: "start" in seconds, "duration", and "hypotheses" as dicts of "text" and "score"."""
        is_input = name == STANDARD_INPUT
        source = sys.stdin.buffer if is_input else name
        for start, waveform in audio.segments(source, self.max_seconds, "standard input" if is_input else None):
            found = self.hypotheses(waveform)
            yield {
                "start": round(start, 3),
                "duration": round(len(waveform) / audio.SAMPLE_RATE, 3),
                "hypotheses": [{"text": text, "score": round(score, 4)} for text, score in found],
            }


def plan(options: Chosen) -> Transcriber:
    """Loads the network."""
    if STANDARD_INPUT in options.files and sys.stdin is None:
        raise ValueError("Standard input is closed.")
    for package, purpose in SOUND.items():
        cli.optional(package, purpose, extra="speech")
    out = pathlib.Path(options.run)
    fields = {"dev_beam_wer": float, "dev_nll": float}
    chosen = choose(options, fields, lambda result: (result["dev_beam_wer"], result["dev_nll"]))
    tokens = tokenizers.read(out / "tokens.json")
    statistics, max_frames = earlier.read_features(out)
    samples = max_frames * features.HOP + features.WINDOW - 1  # the most that have so many frames
    max_seconds = min(max(SHORTEST_LIMIT, samples / audio.SAMPLE_RATE), LONGEST_LIMIT)
    longest = encoded_lengths(features.num_frames(round(max_seconds * audio.SAMPLE_RATE)))
    return Transcriber(
        Searcher(chosen.load(earlier.RECOGNISERS, tokens), tokens, longest), statistics, max_seconds, options
    )


def run(transcriber: Transcriber) -> int:
    """Prints what each file says; returns 1 if any could not be read, else 0."""
    options, status = transcriber.options, 0
    for name in options.files:
        try:
            for line in lines(name, list(transcriber.pieces(name)), options):
                print(line, flush=True)
        except ValueError as error:
            status = 1
            print(" ".join(str(error).split()), file=sys.stderr, flush=True)
    return status


def lines(name: str, pieces: list[dict[str, Any]], options: Chosen) -> list[str]:
    """What is printed of a file: a line of JSON, or of text; with several texts, a line for each text of each piece."""
    best = [piece["hypotheses"][0] for piece in pieces]
    text = " ".join(hypothesis["text"] for hypothesis in best if hypothesis["text"])
    score = sum(hypothesis["score"] for hypothesis in best) / len(best)
    if options.json:
        whole = {"file": name, "text": text, "score": round(score, 4), "pieces": pieces}
        return [cli.json_line(whole)]
    if options.n_best == 1:
        return [f"{name}\t{score:.2f}\t{text}"]
    return [
        f"{name} {piece['start']:.2f} s\t{hypothesis['score']:.2f}\t{hypothesis['text']}"
        for piece in pieces
        for hypothesis in piece["hypotheses"]
    ]
