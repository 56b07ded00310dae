"""What the paper asks of each kind of experiment: the numbers that it reports, and what it claims of them."""

import math
from typing import Any

from demos.reproduce.experiment import Claim, Number, Part

# What the paper reports of these data: accuracy with hard targets and with smoothing
ACCURACY = {
    "cifar10": ("CIFAR-10, AlexNet", "86.8 ± 0.2", "86.7 ± 0.3"),
    "cifar100": ("CIFAR-100, ResNet-56", "72.1 ± 0.3", "72.7 ± 0.3"),
}
# and calibration error: with hard targets, scaled by a temperature, with smoothing by that α, and the temperature.
ECE = {
    "cifar100": ("CIFAR-100, ResNet-56", "0.150", "0.021", "0.024", 0.05, "1.9"),
    "translation": ("WMT EN-DE, Transformer", "0.056", "0.018", "0.019", 0.1, "1.13"),
}
# By how much the ECE of smoothing exceeds that of scaling in the paper at most (ImageNet: 0.035 and 0.022).
WIDEST_GAP = 0.013
DISTILLATION = "demos.image.distillation"
TEMPERATURES = (1, 2, 4, 8)  # that are run at every scale; the paper has 3, 12 and 16, too
HARD_TEACHER = "student of the hard teacher, over T"
# What counts as a gain of accuracy, in points, and as a change of mutual information, in nats
POINTS = 0.5
FALL = 0.1
# What is estimated of two classes of which nothing but the class is left: log 2, and a bias, since the variance of 5
# samples of an example is that about their own mean.
COLLAPSED = round(math.log(2) + 0.5 * math.log(5 / 4), 4)
# Temperatures between which `keras_ls.diagnose` calls a network calibrated
ON_THE_DIAGONAL = (0.9, 1.1)
# Above which ECE and temperature networks are at least about as over-confident as the paper's
OVER_CONFIDENT = {"cifar100": (0.1, 1.5), "translation": (0.04, 1.1)}
# The demos that train what the paper has such numbers of: those numbers, where the accuracy on images that are to be
# memorised is, and which networks the paper's claims are of
TRAINED: dict[str, tuple[str, str, dict[str, tuple[str, ...]]]] = {
    "demos.image.calibration": ("cifar100", "history.-1.accuracy", {}),
    DISTILLATION: ("cifar100", "training_accuracy", {"name": ("teacher/", "hard-teacher/")}),
    "demos.image.information": ("cifar100", "training_accuracy.-1", {}),
    "demos.translation.train": ("translation", "", {}),
}


def pair(
    label: str,
    demo: str,
    path: str,
    alpha: float,
    papers: tuple[str, str] = ("", ""),
    unit: str = "",
    **where: Any,
) -> Any:
    """A number with hard targets, and with smoothing; `where` are settings of its run."""
    networks = (("hard targets", 0.0), (f"α = {alpha:g}", alpha))
    return tuple(
        Number(f"{label}, {name}", demo, path, {**where, "label_smoothing": a}, paper, unit)
        for (name, a), paper in zip(networks, papers, strict=True)
    )


def compare(says: str, numbers: tuple[Number, Number], side: str, by: float = 0.0, case: str = "") -> Claim:
    """What is claimed of the second number of a `pair`, beside the first."""
    return Claim(says, numbers[1].label, side, numbers[0].label, by, case)


def shown(label: str, demo: str, path: str, alphas: tuple[float, ...], unit: str = "") -> tuple[Number, ...]:
    """A number with more label smoothing, of which nothing is claimed."""
    return tuple(Number(f"{label}, α = {a:g}", demo, path, {"label_smoothing": a}, unit=unit) for a in alphas)


def table2(data: str, alpha: float, more: tuple[float, ...] = ()) -> Part:
    """Accuracy; that of `more` label smoothing is only shown."""
    source, *papers = ACCURACY[data]
    accuracy = pair("accuracy %", "demos.image.calibration", "accuracy", alpha, (papers[0], papers[1]), "%")
    says = "Smoothing costs less than one point of accuracy."
    others = shown("accuracy %", "demos.image.calibration", "accuracy", more, "%")
    return Part(source, (*accuracy, *others), (compare(says, accuracy, "above", by=-1.0),))


def table3(data: str, alpha: float, demo: str = "demos.image.calibration", more: tuple[float, ...] = ()) -> Part:
    """Calibration error; that of `more` label smoothing is only shown."""
    source, hard, scaled, smoothed, of_paper, _ = ECE[data]
    if alpha != of_paper:
        source, smoothed = f"{source} (with smoothing by α = {of_paper:g}, {smoothed})", ""
    ece = pair("ECE", demo, "ece", alpha, (hard, smoothed))
    of_scaled = Number("ECE, hard targets scaled", demo, "ece_scaled", {"label_smoothing": 0.0}, scaled)
    as_good = (
        "Smoothing calibrates as a temperature does: its ECE exceeds that of scaled hard targets by less than "
        f"{WIDEST_GAP:g}, the paper's widest gap."
    )
    claims = (
        compare("Smoothing calibrates: its ECE is below that of hard targets.", ece, "below"),
        Claim(as_good, ece[1].label, "below", of_scaled.label, WIDEST_GAP),
    )
    return Part(source, (ece[0], of_scaled, ece[1], *shown("ECE", demo, "ece", more)), claims)


def regime(demo: str = "demos.image.calibration", **where: Any) -> Part:
    """Whether the networks of a run are such as the paper speaks of: they are too sure and, if of images, know them."""
    data, learnt_at, networks = TRAINED[demo]
    hard = {"label_smoothing": 0.0, **networks, **where}
    source, paper, *_, scaling = ECE[data]
    ece = Number("ECE, hard targets", demo, "ece", hard, paper)
    temperature = Number("temperature, hard targets", demo, "temperature", hard, scaling)
    claims = tuple(
        Claim(f"With hard targets the {what} is above {bound:g}.", number.label, "above", bound)
        for what, number, bound in zip(("ECE", "temperature"), (ece, temperature), OVER_CONFIDENT[data], strict=True)
    )
    if not learnt_at:
        return Part(source, (ece, temperature), claims)
    learnt = Number("accuracy % in training's last epoch, hard targets", demo, learnt_at, hard, "", "%")
    memorised = Claim("With hard targets training accuracy is above 95 %.", learnt.label, "above", 95.0)
    return Part(source, (learnt, ece, temperature), (memorised, *claims))


def reliability(data: str, alpha: float, demo: str = "demos.image.calibration") -> Part:
    """Over-confidence, by the temperature that is fitted: 1 on the diagonal, above 1 below it."""
    source, *_, hard = ECE[data]
    temperature, (low, high) = pair("temperature", demo, "temperature", alpha, (hard, "")), ON_THE_DIAGONAL
    gap = pair("confidence − accuracy, points", demo, "curve.gap", alpha, unit="%")
    claims = (
        Claim(
            "With hard targets networks are over-confident: their temperature is above 1.",
            temperature[0].label,
            "above",
            1.0,
        ),
        compare("Smoothing makes networks less sure: their temperature is lower.", temperature, "below"),
        Claim(
            f"Smoothing brings the temperature to the diagonal: below {high:g}.", temperature[1].label, "below", high
        ),
        Claim(
            f"Smoothing does not bring the temperature beyond the diagonal: it is above {low:g}.",
            temperature[1].label,
            "above",
            low,
        ),
    )
    return Part(source, (*temperature, *gap), claims, (demo, "reliability.png"))


def students(alpha: float) -> Part:
    """Figure 5; `alpha` is that of a teacher which should be better than that of hard targets.

    Points whose γ is beyond the largest α of the students alone are left out.
    """
    hard, smoothed = (
        Number(f"teacher's accuracy %, {name}", DISTILLATION, "accuracy", {"name": "teacher/", **of}, unit="%")
        for name, of in (("hard targets", {"label_smoothing": 0.0}), (f"α = {alpha:g}", {"label_smoothing": alpha}))
    )
    of_hard, of_smoothed = (
        Number(f"{label} − student alone, points", DISTILLATION, "margin", {"curve": curve})
        for label, curve in (
            ("hard teacher's student, mean over T", HARD_TEACHER),
            ("smoothed teacher's student", "student of smoothed teachers, T = 1"),
        )
    )
    at = tuple(
        Number(
            f"hard teacher's student, T = {t:g} − student alone, points",
            DISTILLATION,
            "margin_there",
            {"curve": HARD_TEACHER, "temperature": t},
        )
        for t in TEMPERATURES
    )
    better = "the hard teacher's student is better than a student alone at the same γ"
    claims = (
        Claim("Smoothing makes better teachers.", smoothed.label, "above", hard.label),
        Claim(f"On average over T {better}.", of_hard.label, "above", 0.0),
        *(Claim(f"At T = {each.where['temperature']} {better}.", each.label, "above", 0.0) for each in at),
        Claim(
            f"A smoothed teacher's student is less than {POINTS:g} points better than a student alone at the same γ.",
            of_smoothed.label,
            "below",
            POINTS,
        ),
        Claim(
            "A smoothed teacher's student is worse than a student alone at the same γ.", of_smoothed.label, "below", 0.0
        ),
        Claim("On average hard teachers teach better.", of_hard.label, "above", of_smoothed.label),
    )
    source = "CIFAR-10, ResNet-56 and AlexNet: a picture"
    return Part(source, (hard, smoothed, of_hard, *at, of_smoothed), claims, (DISTILLATION, "distillation.png"))


def mnist() -> Part:
    """Two teachers and their students."""
    papers = {
        "hard-teacher": "0.67",
        "smoothed-teacher": "0.59",
        "student-alone": "",
        "student-of-the-hard-teacher": "0.74",
        "student-of-the-smoothed-teacher": "0.91",
    }
    numbers = [
        Number(f"error %, {name.replace('-', ' ')}", DISTILLATION, "accuracy", {"name": f"{name}/"}, paper, "error %")
        for name, paper in papers.items()
    ]
    hard, smoothed, alone, of_hard, of_smoothed = (number.label for number in numbers)
    claims = (
        Claim("Smoothing makes the better teacher.", smoothed, "below", hard),
        Claim("The hard teacher teaches better: the smoothed one's student errs more.", of_smoothed, "above", of_hard),
        Claim("The hard teacher's student is better than one alone.", of_hard, "below", alone),
    )
    return Part("MNIST, 2×1200 and 2×800", tuple(numbers), claims)


def information(alpha: float) -> Part:
    """Figure 6: mutual information in nats, before training, at its highest and at the end.

    The others are means of five measurements, since the highest of many single ones is above all others by chance.
    """
    demo, path = "demos.image.information", "mutual_information"
    places = {
        "before training": "0",
        "highest (mean of 5)": "mean5.max",
        "half-way (mean of 5)": "mean5.half",
        "at the end (mean of 5)": "mean5.-1",
    }
    first, highest, half, last = (pair(name, demo, f"{path}.{at}", alpha) for name, at in places.items())
    rises = zip(("With hard targets", "With smoothing"), first, highest, last, strict=True)
    claims = [
        compare("With smoothing the information falls faster: less is left half-way through training.", half, "below"),
        compare("With smoothing less information is left at the end.", last, "below"),
    ]
    for how, start, top, end in rises:
        claims += [
            Claim(f"{how} the information rises by {FALL:g} nats or more.", top.label, "above", start.label, FALL),
            Claim(f"{how} the information then falls by {FALL:g} nats or more.", end.label, "below", top.label, -FALL),
        ]
    near = (
        f"With smoothing the information ends less than {FALL:g} nats above the estimate where only the class is left."
    )
    claims.append(Claim(near, last[1].label, "below", COLLAPSED, FALL))
    picture = (demo, "information.png")
    return Part("CIFAR-10, ResNet-56: a picture", (*first, *highest, *half, *last), tuple(claims), picture)


def calibration(data: str, alpha: float, more: tuple[float, ...] = ()) -> dict[str, Part]:
    """All that there is to the calibration of images.

    `data` are those of the paper that are held beside ours, `alpha` is that of Table 3 and Figure 2, and of networks
    with `more` label smoothing accuracy and calibration error are shown.
    """
    return {
        "regime": regime(),
        "table2": table2(data, 0.1, tuple(a for a in (alpha, *more) if a != 0.1)),  # 0.1 as in the paper
        "table3": table3("cifar100", alpha, more=more),
        "fig2": reliability("cifar100", alpha),
    }


def advice(cases: dict[str, dict[str, Any]], demo: str = "demos.image.calibration") -> dict[str, Part]:
    """Whether smoothing lowers the calibration error of each case; a case is a name, and settings of its run."""
    alphas, numbers, claims = (0.05, 0.1), [], []
    for name, where in cases.items():
        hard, *smoothed = (
            Number(f"ECE, {name}, α = {alpha:g}", demo, "ece", {**where, "label_smoothing": alpha})
            for alpha in (0.0, *alphas)
        )
        numbers += [hard, *smoothed]
        claims += [
            compare(f"Smoothing with α = {alpha:g} lowers the ECE.", (hard, each), "below", case=name)
            for alpha, each in zip(alphas, smoothed, strict=True)
        ]
    return {"advice": Part("none", tuple(numbers), tuple(claims))}
