"""What the logits of two classes say about the training image: at *cpu* those of a ResNet-8 of 10,000 images."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting, by_network, by_seed

CIFAR = "python -m demos.image.information --dataset cifar10 --model resnet"
PAPER = "Figure 6: it rises fast, then falls towards log 2, faster and lower with smoothing"
SCALES = {
    # A little less noise than 0.05, with which hard targets of seed 0, tried alone, just learned their images.
    "cpu": Setting(
        f"{CIFAR} --depth 8 --train-images 10000 --no-augment --augment-noise 0.03 --steps 3000 --measure-every 50",
        15,
        "2 cores of an Intel Xeon",
        trials=by_network(0, 0.1),
        shown="docs/distillation.md: Figure 6 on CIFAR-10",
    ),
    "paper": Setting(
        f"{CIFAR} --depth 56 --precision mixed_bfloat16 --steps-per-execution 20",
        None,
        trials=by_seed(),
        updates=2 * 64_000,
        short="--seeds 0 --label-smoothing 0 --steps {steps} --measure-every {steps}",
    ),
}
WHY = {
    "cpu": {
        "fig6": "It rises in each seed; by how much depends on where the untrained network starts, which differs "
        "between seeds (its batch normalisation has no statistics yet). Both curves level off as the learning rate "
        "falls. On digits three times as many steps bring the smoothed one nearer to log 2 (information_digits_long), "
        "and so presumably would more steps here."
    }
}
PARTS = {"regime": questions.regime("demos.image.information"), "fig6": questions.information(0.1)}
