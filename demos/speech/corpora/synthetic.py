"""Sentences of a grammar or of a text file, spoken by eSpeak NG in many voices, each with settings of its own."""

import dataclasses
import importlib.metadata
import os
import pathlib

import numpy as np

from demos.kit import multi30k
from demos.kit.cli import optional
from demos.kit.download import cache_directory
from demos.kit.options import DATA_VARIABLE
from demos.kit.seeds import DATA_SEED
from demos.kit.texts import read_text
from demos.speech.corpora import grammar
from demos.speech.corpora.base import Corpus, Utterance, normalise
from demos.speech.sound import audio, espeak, features, noise

SIZES = {"train": 3000, "dev": 200, "test": 300}
ACCENTS = ("en-us", "en-gb-x-rp", "en-gb-scotland")
VARIANTS = ("m1", "m2", "m3", "m7", "f1", "f2", "f3", "f4")
SPEEDS = range(130, 196, 5)  # words per minute
PITCHES = range(25, 81, 5)  # 50 is the voice's own
SNR = (20.0, 45.0)  # of the hiss under the voice, in dB
MAX_WORDS = 60


@dataclasses.dataclass(frozen=True)
class SpokenSentence(Utterance):
    """A sentence and how eSpeak NG says it."""

    voice: str  # accent and variant
    words_per_minute: int
    pitch: int  # 0 to 99


class Synthetic(Corpus):
    """Speech made on demand."""

    def waveform(self, utterance: SpokenSentence) -> np.ndarray:
        """Speaks the sentence, with silence around it and hiss under it."""
        rng = noise.generator("synthetic", utterance.key)
        said = utterance.transcript, utterance.voice, utterance.words_per_minute, utterance.pitch
        samples, rate = espeak.speak(*said, seed=int(rng.integers(1, 2**31)))
        speech = audio.resample(audio.trim(samples.astype("float32") / 32768), rate)
        if len(speech) < audio.MIN_SAMPLES:
            raise ValueError(f"{utterance.key}: eSpeak NG says nothing for {utterance.transcript!r}.")
        speech *= 10 ** rng.uniform(-1, 0) / np.abs(speech).max()
        around = rng.integers(audio.SAMPLE_RATE // 20, audio.SAMPLE_RATE // 5, 2)
        # Time for a character every 4 frames, as much as a recogniser can take, and one more.
        needed = 4 * features.HOP * (len(utterance.transcript) + 1) - len(speech) - around.sum()
        speech = np.pad(speech, (around[0], around[1] + max(0, needed)))
        return noise.mix(speech, noise.hiss(rng, len(speech)), rng.uniform(*SNR))


def load(text: str | None, sizes: dict[str, int | None]) -> Synthetic:
    """Sentences of the grammar, or of a UTF-8 file with one per line, each in one of the splits, chosen at random.

    Voices are the same in all splits, but each combination of speed and pitch is heard in one split alone. All the
    sentences of a file that dev and test leave are trained on, unless `sizes` says how many.
    """
    optional("espeakng_loader", "--corpus synthetic", extra="speech")
    train, dev, test = sizes["train"], sizes["dev"] or SIZES["dev"], sizes["test"] or SIZES["test"]
    if text is None:
        train = train or SIZES["train"]
        sentences = grammar.sentences(DATA_SEED, train + dev + test)
    else:
        sentences = _read(text)
        train = train or max(1, len(sentences) - dev - test)
        if len(sentences) < train + dev + test:
            raise ValueError(
                f"{text} has {len(sentences)} different sentences, fewer than the {train} + {dev} + {test} of "
                "--train-sentences, --dev-sentences and --test-sentences."
            )
    order = noise.generator("split", DATA_SEED).permutation(len(sentences))
    chosen = {"test": order[:test], "dev": order[test : test + dev], "train": order[test + dev : test + dev + train]}
    pairs = _settings()
    splits = {
        split: [_spoken(f"{split}-{i}", sentences[row], pairs[split]) for i, row in enumerate(rows)]
        for split, rows in chosen.items()
    }
    settings = {"espeakng": importlib.metadata.version("espeakng-loader"), "snr": SNR}
    return Synthetic("synthetic" if text is None else pathlib.Path(text).stem, splits, settings)


def _settings() -> dict[str, list[tuple[int, int]]]:
    """Split to its (speed, pitch) pairs."""
    pairs = [(speed, pitch) for speed in SPEEDS for pitch in PITCHES]
    order = noise.generator("settings", DATA_SEED).permutation(len(pairs))
    cut = len(pairs) // 5
    rows = {"test": order[:cut], "dev": order[cut : 2 * cut], "train": order[2 * cut :]}
    return {split: [pairs[i] for i in chosen] for split, chosen in rows.items()}


def _spoken(key: str, sentence: str, pairs: list[tuple[int, int]]) -> SpokenSentence:
    rng = noise.generator("voice", key, sentence)
    voice = f"{ACCENTS[rng.integers(len(ACCENTS))]}+{VARIANTS[rng.integers(len(VARIANTS))]}"
    speed, pitch = pairs[rng.integers(len(pairs))]
    return SpokenSentence(f"{key}: {sentence}", sentence, voice, speed, pitch)


def _read(path: str) -> list[str]:
    """The different sentences of a text file, in its order; one of Multi30k that is nowhere is downloaded."""
    found = place(path)
    if path in multi30k.SHA256 and not found.is_file():
        found = multi30k.directory(None) / path
    lines = [normalise(line) for line in read_text(found).splitlines()]
    for number, line in enumerate(lines, start=1):
        if len(line.split()) > MAX_WORDS:
            words = len(line.split())
            raise ValueError(f"--text {path} must have one sentence per line. Line {number} has {words} words.")
    return list(dict.fromkeys(filter(None, lines)))


def place(path: str, moved: bool = False) -> pathlib.Path:
    """A file where it is named, else in $KERAS_LS_DATA or in its folder of Multi30k, else where that is downloaded.

    One that may have `moved` since a run noted its place is found there by its name, too: the run knows its content.
    """
    path = os.path.expanduser(path)
    folders = [pathlib.Path(os.path.expanduser(folder)) for folder in [os.environ.get(DATA_VARIABLE)] if folder]
    folders = [*folders, *(folder / multi30k.NAME for folder in [*folders, cache_directory()])]
    names = (path, pathlib.Path(path).name) if moved else (path,)
    places = [pathlib.Path(path), *(folder / name for folder in folders for name in names)]
    return next((each for each in places if each.is_file()), places[0])
