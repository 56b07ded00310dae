"""A demo with little data: `python small_demo.py MODULE ARGUMENT...` writes a checkpoint after each step."""

import importlib
import sys

from demos.kit import epochs


def each_step(steps, *_):
    from demos.kit import checkpoints  # imports Keras, which must not come before the devices are chosen

    checkpoints.SECONDS_BETWEEN_CHECKPOINTS = 0.0
    return 1, steps


def main(module, *arguments):
    epochs.epoch_length = each_step
    if module == "demos.translation.train":
        from demos.sequence import training
        from demos.translation.analysis import data
        from demos.translation.corpora import toy

        toy.SIZES = {"train": 1000, "dev": 12, "test": 12}
        data.NUM_BUCKETS, training.LOOKS = 2, 2  # what is compiled is what takes time
    return importlib.import_module(module).main(list(arguments))


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
