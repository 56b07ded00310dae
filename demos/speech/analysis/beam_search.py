"""Temperature and beam width swept over for every recogniser of a run: what demos.speech.beam_search does."""

import pathlib
from typing import Any

from demos.kit import cli
from demos.kit.options import Chosen
from demos.sequence import sweep, tokenizers
from demos.sequence.sweep import Sweep
from demos.sequence.training import Data
from demos.speech.analysis import PACKAGES, data, earlier


def plan(options: Chosen) -> Sweep:
    """Finds the networks of the run and its data, which must be what they were trained on."""
    cli.optional("jiwer", PACKAGES["jiwer"], extra="speech")

    def load(out: pathlib.Path, tokens: tokenizers.Tokens) -> Data:
        of_run = earlier.read_options(out)
        for name in ("data_dir", "cache_dir", "workers"):
            if getattr(options, name) is not None:
                setattr(of_run, name, getattr(options, name))
        return data.load(of_run, tokens, of_run.data)

    def tokens(out: pathlib.Path) -> tokenizers.Tokens:
        return tokenizers.read(out / "tokens.json")

    return sweep.plan(options, earlier.RECOGNISERS, {"dev_beam_wer": float}, tokens, load)


def run(planned: Sweep) -> None:
    """Sweeps and draws."""
    parts = {"trials": sweep.run(planned)}
    sweep.publish_results(planned, "demos.speech.beam_search", parts, table, figure)


of_trials = sweep.of_trials


def table(results: dict[str, Any]) -> str:
    """The means over the seeds: one table against temperature, one against the width of the beam."""
    return "\n\n".join(sweep.tables(results["trials"]))


def figure(results: dict[str, Any]) -> list[Any]:
    """Figure 4, once against temperature and once against the width of the beam; Figure 3."""
    return [*sweep.figures(results["series"], percent=("wer", "cer")), *sweep.reliabilities(results)]
