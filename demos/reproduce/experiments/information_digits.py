"""What two classes' logits say about the training example, step by step."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting

PAPER = "Figure 6, of other data: it rises, then falls towards log 2, faster with smoothing"
SCALES = {
    "smoke": Setting(
        "python -m demos.image.information", 2, shown="docs/distillation.md: Figure 6: the logits forget the example"
    ),
}
WHY = {
    "smoke": {
        "fig6": "The curve levels off while the learning rate falls to 0. Three times as many steps bring it near "
        "enough (information_digits_long, at the scale cpu)."
    }
}
PARTS = {"regime": questions.regime("demos.image.information"), "fig6": questions.information(0.1)}
