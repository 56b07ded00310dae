"""What a run of demos.speech.train left: its networks, tokens and features, checked as they are read."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from demos.kit import checkpoints, records
from demos.kit.errors import DamagedFile
from demos.kit.options import Chosen, Group
from demos.sequence import tokenizers
from demos.speech import corpora
from demos.speech.corpora.feature_cache import FeatureSet
from demos.speech.networks.lstm import LSTMRecogniser
from demos.speech.networks.recogniser import Recogniser
from demos.speech.networks.transformer import TransformerRecogniser
from demos.speech.sound.features import NUM_MELS

# Options that say what data a run has, as its settings hold them.
GROUPS = (Group("", corpora.Options), Group("", corpora.Representation), Group("", corpora.Storage))
SETTINGS = {"corpus": str, "tokens": str, "normalisation": str, "skip_bad": bool, "data": str}
RESULT = {"label_smoothing": float, "seed": int, "dev_beam_wer": float, "dev_nll": float}
FEATURES = {"statistics": ([[float]], None), "max_frames": int}


def name(alpha: float, seed: int) -> str:
    """The directory of a network in its run."""
    return f"alpha-{alpha!r}/seed-{seed}"


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained network of a run."""

    label_smoothing: float
    seed: int
    folder: pathlib.Path  # where it lies
    result: dict[str, Any]  # its numbers

    def load(self, tokens: tokenizers.Tokens) -> Recogniser:
        """The network, if it is a recogniser of these tokens; else a DamagedFile."""
        network = checkpoints.load_network(self.folder)
        if not isinstance(network, LSTMRecogniser | TransformerRecogniser) or network.vocabulary_size != tokens.size:
            raise DamagedFile(f"{self.folder / 'model.keras'} cannot be used: it is no recogniser of the run's tokens.")
        return network


def trained_networks(out: pathlib.Path) -> list[Trained]:
    """The finished networks of a run, of which there is at least one, by α, then by seed."""
    found = [(path.parent, records.read_json(path, RESULT)) for path in out.glob("alpha-*/seed-*/result.json")]
    networks = [Trained(result["label_smoothing"], result["seed"], folder, result) for folder, result in found]
    if not networks:
        raise ValueError(
            f"--from must be the directory of a run with a model trained to its end. Received: {str(out)!r}."
        )
    return sorted(networks, key=lambda network: (network.label_smoothing, network.seed))


def read_options(out: pathlib.Path) -> Chosen:
    """What a run was told of its data, with the defaults of newer options; `data` is the corpus's fingerprint."""
    settings = records.read_json(out / "settings.json", SETTINGS)
    # Runs of earlier versions have it among their settings.
    place = {"data_dir": settings.get("data_dir"), **records.read_json(out / "features.json", FEATURES)}["data_dir"]
    options = Chosen(GROUPS, {})
    vars(options).update({**settings, "data_dir": place})
    return options


def write_features(out: pathlib.Path, train: FeatureSet, data_dir: str | None) -> None:
    """Notes what must be known to make features like those of the training, and where the corpus lies."""
    statistics = None if train.corpus_statistics is None else train.corpus_statistics.tolist()
    described = {"statistics": statistics, "max_frames": int(train.num_frames.max()), "data_dir": data_dir}
    records.write_json(out / "features.json", described)


def read_features(out: pathlib.Path) -> tuple[np.ndarray | None, int]:
    """The statistics that features are normalised by, if not by each one's own; frames of the longest utterance."""
    path = out / "features.json"
    described = records.read_json(path, FEATURES)
    statistics, max_frames = described["statistics"], described["max_frames"]
    if statistics is not None and [len(row) for row in statistics] != [NUM_MELS] * 2:
        raise DamagedFile(f"{path} is damaged: its statistics are not 2 rows of {NUM_MELS} numbers.")
    return None if statistics is None else np.array(statistics, "float32"), max_frames
