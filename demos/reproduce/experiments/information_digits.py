"""What two classes' logits say about the training example, step by step."""

from demos.reproduce import Experiment

EXPERIMENT = Experiment(
    commands="python -m demos.image.information",
    time="2 minutes on 2 cores of an AMD EPYC",
    paper="Figure 6, of other data: it rises, then falls towards log 2, faster with smoothing",
    shown="docs/distillation.md: Figure 6: the logits forget the example",
)
