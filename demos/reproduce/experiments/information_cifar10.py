"""What the logits of "airplane" and "dog" say about the training image, while the paper's ResNet-56 trains."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting

RESNET = """python -m demos.image.information --dataset cifar10 --model resnet --depth 56 \
    --precision mixed_bfloat16 --steps-per-execution 20"""
PAPER = "Figure 6: it rises fast, then falls towards log 2, faster and lower with smoothing"
SCALES = {"paper": Setting(RESNET, None, updates=6 * 64_000)}
PARTS = {"fig6": questions.information(0.1)}
