"""What two classes' logits say about the training example, step by step."""

COMMANDS = "python -m demos.image.information"
TIME = "2 minutes on 2 cores of an AMD EPYC"
PAPER = "Figure 6, of other data: it rises, then falls towards log 2, faster with smoothing"
SHOWN = "docs/distillation.md: Figure 6: the logits forget the example"
