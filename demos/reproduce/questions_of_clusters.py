"""What the paper asks of the penultimate layer: how tight the classes' clusters are, and how far apart."""

from typing import Any

from demos.reproduce.experiment import NEARER_TO_1, Claim, Number, Part
from demos.reproduce.questions import compare, pair

EQUIDISTANT = 0.9
DEMO, TRAINING, HELD_OUT = "demos.image.projection", "statistics.training", "statistics.held-out"
SOURCE = "AlexNet and ResNet-56: a picture"
TIGHTER = "Clusters of training examples tighten with smoothing."
TIGHTER_HELD_OUT = "Clusters of held-out examples tighten, too."
EQUALLY_DISTANT = "The classes are more equally distant from each other."
PAPERS = "The paper's three classes become more nearly as distant from each other."
SIMILAR = "Similar classes become more nearly as distant as others."
WHY_HELD_OUT = (
    "Clusters of held-out digits tighten as long as about a quarter of them or fewer are misclassified, and spread "
    "where about half of them are (projection_digits_noise)."
)
SEEN = "training images, as the logits see them"
WITHIN, VARIABILITY = "within / between", "within-class variability, held-out images"
DISTANCES = "c.v. of the templates' distances"


def clusters(alpha: float, triples: tuple[tuple[str, str, str], ...] = (), in_span: bool = False) -> Part:
    """How tight, how large and how equally distant the classes' clusters are.

    `triples` are the classes of each row of the picture: the paper's, then two similar ones and one unlike them. With
    `in_span` the distances of class means are looked at as the logits see them, too.
    """
    ratio = pair(f"{WITHIN}, training images", DEMO, f"{TRAINING}.ratio", alpha)
    held_out = pair(f"{WITHIN}, held-out images", DEMO, f"{HELD_OUT}.ratio", alpha)
    scale = pair("scatter between classes, training images", DEMO, f"{TRAINING}.between", alpha)
    distance = pair(DISTANCES, DEMO, f"{TRAINING}.template_distance_cv", alpha)
    claims: tuple[Claim, ...] = (
        compare(TIGHTER, ratio, "below"),
        compare("Clusters of training examples are on a smaller scale.", scale, "below"),
        compare(EQUALLY_DISTANT, distance, "below"),
        compare(TIGHTER_HELD_OUT, held_out, "below"),
    )
    shown = (
        *pair(f"{WITHIN} in the whole space, training images", DEMO, f"{TRAINING}.whole_space_ratio", alpha),
        *pair("within-class variability, training images", DEMO, f"{TRAINING}.variability", alpha),
        *pair(VARIABILITY, DEMO, f"{HELD_OUT}.variability", alpha),
    )
    numbers = (*ratio, *held_out, *scale, *distance, *shown)
    for row, (first, second, other) in enumerate(triples):
        first, second, other = (name.replace("_", " ") for name in (first, second, other))
        label, path = f"{first}–{second} distance over that to {other}", f"{TRAINING}.first_two_over_others.{row}"
        nearness = pair(f"{label}, training images", DEMO, path, alpha)
        numbers += nearness
        claims += (compare((PAPERS, SIMILAR)[row], nearness, NEARER_TO_1),)
    if triples:
        at_last = f"With smoothing similar classes are at least {EQUIDISTANT:g} times as distant as others."
        claims += (Claim(at_last, nearness[1].label, "above", EQUIDISTANT),)
    if in_span:
        means = pair(f"c.v. of the class means' distances, {SEEN}", DEMO, f"{TRAINING}.means_distance_cv", alpha)
        numbers += means
        numbers += pair("correlation of the two distances", DEMO, f"{TRAINING}.distances_correlation", alpha)
        nearness = pair(f"{label}, {SEEN}", DEMO, f"{TRAINING}.first_two_over_others_in_span.{row}", alpha)
        numbers += nearness
        claims += (
            compare(
                "As the logits see them, the class means are more equally distant from each other.", means, "below"
            ),
            compare("As the logits see them, similar classes become more nearly as distant.", nearness, NEARER_TO_1),
            Claim(
                f"As the logits see them, {at_last[0].lower()}{at_last[1:]}", nearness[1].label, "above", EQUIDISTANT
            ),
        )
    return Part(SOURCE, numbers, claims, (DEMO, "projection.png"))


def clusters_of_trainings(trainings: dict[str, dict[str, Any]], alpha: float) -> Part:
    """How tight and how equally distant the clusters are after each training: a name, and settings of its run."""
    numbers: tuple[Number, ...] = ()
    claims: tuple[Claim, ...] = ()
    for name, where in trainings.items():
        ratio = pair(f"{WITHIN}, training images, {name}", DEMO, f"{TRAINING}.ratio", alpha, **where)
        distance = pair(f"{DISTANCES}, {name}", DEMO, f"{TRAINING}.template_distance_cv", alpha, **where)
        numbers += (*ratio, *distance)
        claims += (
            compare(TIGHTER, ratio, "below", case=name),
            compare(EQUALLY_DISTANT, distance, "below", case=name),
        )
    return Part(SOURCE, numbers, claims)


def held_out_clusters(trainings: dict[str, dict[str, Any]], alpha: float) -> Part:
    """How tight clusters of held-out images are, and how many hard targets get right, of each training as above."""
    numbers: tuple[Number, ...] = ()
    claims: tuple[Claim, ...] = ()
    for name, where in trainings.items():
        hard = {**where, "label_smoothing": 0.0}
        ratio = pair(f"{WITHIN}, held-out images, {name}", DEMO, f"{HELD_OUT}.ratio", alpha, **where)
        variability = pair(f"{VARIABILITY}, {name}", DEMO, f"{HELD_OUT}.variability", alpha, **where)
        accuracy = Number(f"accuracy %, hard targets, {name}", DEMO, "accuracy", hard, unit="%")
        numbers += (accuracy, *ratio, *variability)
        claims += (compare(TIGHTER_HELD_OUT, ratio, "below", case=name),)
    return Part(SOURCE, numbers, claims)
