"""The trained networks that a run left, checked as they are read."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from demos.kit import checkpoints, records
from demos.kit.errors import DamagedFile
from demos.kit.options import Chosen
from demos.sequence.tokenizers import Tokens


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained network of a run."""

    label_smoothing: float
    seed: int
    folder: pathlib.Path  # where it lies
    result: dict[str, Any]  # its numbers

    def load(self, kind: Any, tokens: Tokens) -> Any:
        """The network, if it is of the class or classes `kind` and has these tokens; else a DamagedFile."""
        network = checkpoints.load_network(self.folder)
        if not isinstance(network, kind) or network.vocabulary_size != tokens.size:
            raise DamagedFile(f"{self.folder / 'model.keras'} cannot be used: it is no network of the run's tokens.")
        return network


def trained_networks(out: pathlib.Path, fields: dict[str, Any]) -> list[Trained]:
    """The finished networks of a run, of which there is at least one, by α, then by seed.

    `fields` are what must stand in their results, as `records.read_json` takes it; those of other demos lack some.
    """
    own, networks = {"label_smoothing": float, "seed": int}, []
    for path in out.glob("alpha-*/seed-*/result.json"):
        if lacking := fields.keys() - records.read_json(path, own).keys():
            raise ValueError(f"--from {str(out)!r} is of another demo: its results lack {', '.join(sorted(lacking))}.")
        result = records.read_json(path, own | fields)
        networks.append(Trained(result["label_smoothing"], result["seed"], path.parent, result))
    if not networks:
        raise ValueError(
            f"--from must be the directory of a run with a model trained to its end. Received: {str(out)!r}."
        )
    return sorted(networks, key=lambda network: (network.label_smoothing, network.seed))


def choose(options: Chosen, fields: dict[str, Any], cost: Callable[[dict[str, Any]], Any]) -> Trained:
    """The network of a run that the `Finding` options ask for; of several, the one whose result costs least."""
    if options.n_best > options.beam_width:
        raise ValueError(
            f"--n-best must be at most --beam-width ({options.beam_width}). Received: --n-best {options.n_best}."
        )
    networks = trained_networks(pathlib.Path(options.run), fields)
    alpha, seed = options.label_smoothing, options.seed
    fitting = [each for each in networks if alpha in (None, each.label_smoothing) and seed in (None, each.seed)]
    if not fitting:
        there = ", ".join(f"α = {each.label_smoothing:g} seed {each.seed}" for each in networks)
        raise ValueError(f"--label-smoothing and --seed must be those of a trained model: {there}.")
    return min(fitting, key=lambda each: cost(each.result))
