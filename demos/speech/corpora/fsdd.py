"""Strings of digits spliced from the Free Spoken Digit Dataset: real speakers, one recording per digit.

Zohar Jackson et al., https://github.com/Jakobovski/free-spoken-digit-dataset: 3,000 recordings of 6 speakers at 8 kHz,
recordings/DIGIT_SPEAKER_INDEX.wav.
"""

import dataclasses
import itertools
import pathlib
import re

import numpy as np

from demos.kit import download
from demos.kit.download import find
from demos.kit.seeds import DATA_SEED
from demos.speech.corpora.base import Corpus, Utterance
from demos.speech.corpora.grammar import FIELDS
from demos.speech.corpora.synthetic import SIZES
from demos.speech.sound import audio, noise

DIGITS = FIELDS["digit"]
NAME = re.compile(r"([0-9])_(.+)_([0-9]+)\.wav")
INDICES = {"test": range(0, 5), "dev": range(5, 10), "train": range(10, 10**6)}
LONGEST = 7  # digits
PAUSE = (0.03, 0.4)  # seconds
LEVEL = (-12.0, 0.0)  # dB
ARCHIVE = download.Archive("https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz")


@dataclasses.dataclass(frozen=True)
class DigitString(Utterance):
    """A string of digits."""

    recordings: tuple[str, ...]  # the file name of each digit, all by one speaker


class SplicedDigits(Corpus):
    """Recordings put one after the other."""

    def __init__(self, folder: pathlib.Path, splits: dict[str, list[DigitString]]):
        names = sorted({name for split in splits.values() for string in split for name in string.recordings})
        files = {name: (folder / name).stat() for name in names}
        sizes = [(name, file.st_size) for name, file in files.items()]
        settings = {"pause": PAUSE, "level": LEVEL, "files": sizes}
        super().__init__("fsdd", splits, settings, times=tuple(file.st_mtime_ns for file in files.values()))
        self.folder = folder

    def waveform(self, utterance: DigitString) -> np.ndarray:
        """The recordings, each at its own level, with pauses before, between and after them."""
        rng = noise.generator("fsdd", utterance.key)
        pieces = [_pause(rng)]
        for name in utterance.recordings:
            recording = audio.read(self.folder / name)
            level = 10 ** (rng.uniform(*LEVEL) / 20) / np.abs(recording).max()
            pieces += [recording * np.float32(level), _pause(rng)]
        return np.concatenate(pieces)


def load(
    data_dir: str | None, sizes: dict[str, int | None], speakers_held_out: list[str], num_recordings: int | None
) -> SplicedDigits:
    """Strings of 1 to 7 digits by one speaker each; `sizes` is how many for each split.

    Tests are spliced from recordings 0 to 4 of each digit and speaker, as the data set's authors ask, the development
    split from 5 to 9, and the training split from the others, of which the first `num_recordings` are used. Only the
    tests have `speakers_held_out`, and then no others.
    """
    root = find("fsdd", data_dir, "recordings/*.wav", (ARCHIVE,))
    recordings = _recordings(root / "recordings")
    recordings |= {of: names[:num_recordings] for of, names in recordings.items() if of[0] == "train"}
    speakers = sorted({speaker for _, speaker, _ in recordings})
    unknown = sorted(set(speakers_held_out) - set(speakers))
    if unknown or set(speakers_held_out) == set(speakers):
        raise ValueError(
            f"--speaker-held-out must name some of the speakers, not all: {', '.join(speakers)}. "
            f"Received: {' '.join(speakers_held_out)}."
        )
    known = [speaker for speaker in speakers if speaker not in speakers_held_out]
    heard = {"train": known, "dev": known, "test": sorted(set(speakers_held_out)) or known}
    splits = {
        split: [_string(recordings, split, speakers, i) for i in range(sizes[split] or SIZES[split])]
        for split, speakers in heard.items()
    }
    return SplicedDigits(root / "recordings", splits)


def _recordings(folder: pathlib.Path) -> dict[tuple[str, str, int], list[str]]:
    """Split, speaker and digit to file names, in the order of their indices."""
    found: dict[tuple[str, str, int], list[str]] = {}
    matches = [match for path in folder.glob("*.wav") if (match := NAME.fullmatch(path.name))]
    for match in sorted(matches, key=lambda match: (int(match[3]), match[0])):
        split = next(split for split, indices in INDICES.items() if int(match[3]) in indices)
        found.setdefault((split, match[2], int(match[1])), []).append(match[0])
    if not found:
        raise ValueError(f"{folder} has no recordings named DIGIT_SPEAKER_INDEX.wav.")
    for split, speaker, digit in itertools.product(INDICES, {speaker for _, speaker, _ in found}, range(10)):
        if (split, speaker, digit) not in found:
            raise ValueError(
                f"{folder} must have recordings 0 to 10 at least of each digit by each speaker. "
                f"{digit}_{speaker} has none for the {split} split (indices from {INDICES[split][0]} on)."
            )
    return found


def _string(recordings, split: str, speakers: list[str], number: int) -> DigitString:
    rng = noise.generator("digits", DATA_SEED, split, number)
    speaker = speakers[rng.integers(len(speakers))]
    digits = rng.integers(0, 10, rng.integers(1, LONGEST + 1))
    choices = [recordings[split, speaker, int(digit)] for digit in digits]
    chosen = tuple(names[rng.integers(len(names))] for names in choices)
    return DigitString(f"{split}-{number}: {speaker}", " ".join(DIGITS[digit] for digit in digits), chosen)


def _pause(rng: np.random.Generator) -> np.ndarray:
    return np.zeros(int(rng.uniform(*PAUSE) * audio.SAMPLE_RATE), "float32")
