"""The corpora that the demo learns from: made, downloaded, or the user's own."""

import argparse

from demos.kit import values
from demos.speech.corpora import fsdd, librispeech, manifest, speech_commands, synthetic
from demos.speech.corpora.babble import WithBabble
from demos.speech.corpora.base import DIRECTORY_VARIABLE, SPLITS, Corpus, Utterance

__all__ = ["DIRECTORY_VARIABLE", "MADE", "NAMES", "SPLITS", "Corpus", "Utterance", "add_arguments", "load"]

FILES = {"librispeech": librispeech, "speech_commands": speech_commands, "manifest": manifest}
# Those of as many utterances as one wants.
MADE = ("synthetic", "fsdd")
NAMES = (*MADE, *FILES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `load` reads, in a group "corpus"."""
    add = parser.add_argument_group("corpus").add_argument
    add("--corpus", choices=NAMES, default="synthetic", help="what to learn from (default: synthetic)")
    add(
        "--data-dir",
        metavar="PATH",
        help=f"where the corpus lies, or its manifest file (default: ${DIRECTORY_VARIABLE}, else it is downloaded)",
    )
    add("--text", metavar="FILE", help="sentences for eSpeak NG to say, one a line (default: a grammar's)")
    for split, what in (("train", "train on"), ("dev", "choose by"), ("test", "test on")):
        add(
            f"--{split}-sentences",
            type=values.count,
            metavar="N",
            help=f"sentences or strings of digits to {what}, in corpora that are made up of them "
            f"(default: {synthetic.SIZES[split]}{'; all the rest of --text' if split == 'train' else ''})",
        )
    add("--speaker-held-out", nargs="+", default=[], metavar="NAME", help="FSDD speakers to test on and never train on")
    add(
        "--recordings",
        type=values.count,
        metavar="N",
        help="FSDD recordings of each digit and speaker to train on (default: all)",
    )
    add("--snr", nargs=2, type=float, metavar=("LOW", "HIGH"), help="mix babble under all speech, at LOW to HIGH dB")
    add("--skip-bad", action="store_true", help="leave out utterances that cannot be used, with a count")


def load(options: argparse.Namespace) -> Corpus:
    """The corpus that the command line names.

    Args:
        options: with what `add_arguments` adds.

    Raises:
        demos.kit.errors.MissingExtra: where a package that it needs is not installed.
        ValueError: where the corpus cannot be found or read, or options do not fit together.
    """
    sizes = options.train_sentences, options.dev_sentences, options.test_sentences
    for given, of, option in (
        (options.text, ("synthetic",), "--text"),
        (options.speaker_held_out, ("fsdd",), "--speaker-held-out"),
        (options.recordings, ("fsdd",), "--recordings"),
        (any(sizes), MADE, "--train-sentences, --dev-sentences or --test-sentences"),
        (options.data_dir, NAMES[1:], "--data-dir"),
    ):
        if given and options.corpus not in of:
            raise ValueError(f"{option} is for --corpus {' or '.join(of)}. Received: --corpus {options.corpus}.")
    corpus: Corpus
    if options.corpus == "synthetic":
        corpus = synthetic.load(options.text, *sizes)
    elif options.corpus == "fsdd":
        corpus = fsdd.load(options.data_dir, *sizes, tuple(options.speaker_held_out), options.recordings)
    else:
        corpus = FILES[options.corpus].load(options.data_dir, options.skip_bad)
    return WithBabble(corpus, *options.snr) if options.snr else corpus
