"""What a run of demos.speech.train left: its data and features, checked as they are read."""

import pathlib

import numpy as np

from demos.kit import records, texts
from demos.kit.errors import DamagedFile
from demos.kit.options import Chosen, Group
from demos.speech import corpora
from demos.speech.corpora import synthetic
from demos.speech.corpora.feature_cache import FeatureSet
from demos.speech.networks.recognisers import LSTMRecogniser, TransformerRecogniser
from demos.speech.sound.features import NUM_MELS

# The networks of a run: their classes must be known before a file of one is read.
RECOGNISERS = (LSTMRecogniser, TransformerRecogniser)
# Options that say what data a run has, as its settings hold them.
GROUPS = (Group("", corpora.Options), Group("", corpora.Representation), Group("", corpora.Storage))
SETTINGS = {"corpus": str, "tokens": str, "normalisation": str, "skip_bad": bool, "data": str}
PLACES = ("data_dir", "text")
FEATURES = {"statistics": ([[float]], None), "max_frames": int}


def read_options(out: pathlib.Path) -> Chosen:
    """What a run was told of its data, with the defaults of newer options; `data` is the corpus's fingerprint."""
    settings = records.read_json(out / "settings.json", SETTINGS)
    # Runs of earlier versions have it among their settings.
    found = {**settings, **records.read_json(out / "features.json", FEATURES)}
    options = Chosen(GROUPS, {})
    vars(options).update({**settings, **{name: found.get(name) for name in PLACES}})
    options.text = options.text and str(synthetic.place(options.text, moved=True))
    return options


def write_features(out: pathlib.Path, train: FeatureSet, options: Chosen) -> None:
    """Notes what must be known to make features like those of the training, and where the corpus lies."""
    statistics = None if train.corpus_statistics is None else train.corpus_statistics.tolist()
    places = {
        "data_dir": texts.place(options.data_dir),
        "text": options.text and str(synthetic.place(options.text).absolute()),
    }
    described = {"statistics": statistics, "max_frames": int(train.num_frames.max())}
    records.write_json(out / "features.json", {**described, **places})


def read_features(out: pathlib.Path) -> tuple[np.ndarray | None, int]:
    """The statistics that features are normalised by, if not by each one's own; frames of the longest utterance."""
    path = out / "features.json"
    described = records.read_json(path, FEATURES)
    statistics, max_frames = described["statistics"], described["max_frames"]
    if statistics is not None and [len(row) for row in statistics] != [NUM_MELS] * 2:
        raise DamagedFile(f"{path} is damaged: its statistics are not 2 rows of {NUM_MELS} numbers.")
    return None if statistics is None else np.array(statistics, "float32"), max_frames
