"""The corpora that the demo learns from: made, downloaded, or the user's own."""

import dataclasses
from typing import Any

from demos.kit.options import CACHE_VARIABLE, DATA_VARIABLE, option
from demos.kit.values import count, positive
from demos.sequence import tokenizers
from demos.speech.corpora import babble, feature_cache, fsdd, librispeech, manifest, speech_commands, synthetic
from demos.speech.corpora.base import SPLITS, Corpus

FILES = {"librispeech": librispeech, "speech_commands": speech_commands, "manifest": manifest}
# Corpora that are made with any number of utterances.
MADE = ("synthetic", "fsdd")
NAMES = (*MADE, *FILES)
DATA_DIR = f"${DATA_VARIABLE}, else it is downloaded"
CACHE_DIR = f"features in ${CACHE_VARIABLE}, else in ~/.cache/keras_ls"
NORMALISATION = "normalise each mel channel by the utterance's own mean and s.d., or the training data's"


def _sentences(split: str, purpose: str, rest: str = "") -> Any:
    help = f"sentences or strings of digits to {purpose}, in corpora that are made up of them"
    return option(None, help, count, shown=f"{synthetic.SIZES[split]}{rest}")


@dataclasses.dataclass(frozen=True)
class Options:
    """Which corpus is learned."""

    corpus: str = option("synthetic", "what to learn from", choices=NAMES)
    data_dir: str | None = option(
        None, "where the corpus lies, or its manifest file", affects_result=False, shown=DATA_DIR, metavar="PATH"
    )
    text: str | None = option(
        None,
        f"sentences for eSpeak NG to say, one per line; also looked for in ${DATA_VARIABLE} and its multi30k/",
        affects_result=False,  # what they are does, not where they lie
        shown="a grammar's",
        metavar="FILE",
    )
    train_sentences: int | None = _sentences("train", "train on", "; all the rest of --text")
    dev_sentences: int | None = _sentences("dev", "choose by")
    test_sentences: int | None = _sentences("test", "test on")
    speaker_held_out: tuple[str, ...] = option((), "FSDD speakers to test on and never train on", metavar="NAME")
    recordings: int | None = option(None, "FSDD recordings of each digit and speaker to train on", count, shown="all")
    snr: tuple[float, float] | None = option(
        None, "mix babble under all speech, at LOW to HIGH dB", float, nargs=2, metavar=("LOW", "HIGH")
    )
    max_seconds: float | None = option(
        None, "the longest recording that can be used; longer ones are bad", positive, shown="no limit"
    )
    skip_bad: bool = option(False, "leave out utterances that cannot be used, with a count", action="store_true")


@dataclasses.dataclass(frozen=True)
class Representation:
    """What audio and text are turned into."""

    tokens: str = option("characters", "the units that transcripts are split into", choices=tokenizers.KINDS)
    vocabulary_size: int = option(500, "the most subword tokens", count)
    normalisation: str = option("utterance", NORMALISATION, choices=feature_cache.NORMALISATIONS)


@dataclasses.dataclass(frozen=True)
class Storage:
    """How features are made and kept."""

    workers: int = option(2, "number of processes that make features", count, affects_result=False)
    cache_dir: str | None = option(
        None, "where features are kept", affects_result=False, shown=CACHE_DIR, metavar="DIR"
    )


def load(options: Any) -> Corpus:
    """The corpus that the command line names; a ValueError if it cannot be found or read, or options do not fit."""
    sizes = {split: getattr(options, f"{split}_sentences") for split in SPLITS}
    for given, of, flag in (
        (options.text, ("synthetic",), "--text"),
        (options.speaker_held_out, ("fsdd",), "--speaker-held-out"),
        (options.recordings, ("fsdd",), "--recordings"),
        (any(sizes.values()), MADE, "--train-sentences, --dev-sentences or --test-sentences"),
        (options.data_dir, NAMES[1:], "--data-dir"),
    ):
        if given and options.corpus not in of:
            raise ValueError(f"{flag} is for --corpus {' or '.join(of)}. Received: --corpus {options.corpus}.")
    if options.snr:
        babble.check(*options.snr)
    corpus: Corpus
    if options.corpus == "synthetic":
        corpus = synthetic.load(options.text, sizes)
    elif options.corpus == "fsdd":
        corpus = fsdd.load(options.data_dir, sizes, options.speaker_held_out, options.recordings)
    else:
        corpus = FILES[options.corpus].load(options.data_dir, options.skip_bad)
    return babble.WithBabble(corpus, *options.snr) if options.snr else corpus
