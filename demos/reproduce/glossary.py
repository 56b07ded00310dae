"""What the report says of its numbers and pictures to readers who meet them for the first time."""

# By a regular expression that finds its label
TERMS = {
    r"^temperature, ": "*temperature*: the T with the least NLL on held-out data; above 1 for over-confident networks.",
    "confidence − accuracy": "*confidence − accuracy*: the means over all held-out data; 0 is the diagonal on average.",
    "within / between": "*within / between*: mean squared distance of an example to the mean of its class, over that "
    "of the class means to the mean of all; small is tight. It is taken in the span of the differences of the "
    "templates, which are the classes' weights in the last layer, unless it says otherwise.",
    "scatter between": "*scatter between classes*: mean squared distance of the class means to the mean of all, in the "
    "span of the templates' differences.",
    r"^c\.v\. of": "*c.v.*: the standard deviation over the mean; 0 if all classes are equally distant.",
    "within-class variability": "*within-class variability*: spread within classes relative to that between them, "
    "tr(Σ_W Σ_B⁺)/K, in the whole space (NC1 of Papyan, Han and Donoho 2020).",
    "distance over that": "*distance over that to*: the distance of the first two class means over the mean of their "
    "distances to the third, in the whole space, not in the plane of the picture; 1 if all three are equally distant.",
    "logits see": "*as the logits see them*: in the span of the differences of the templates.",
    "correlation of": "*correlation of the two distances*: over pairs of classes, of the templates' distance and that "
    "of the class means as the logits see them; -1 if means are the nearer, the farther apart their templates are.",
    "student alone, points": "*− student alone*: how much more accurate a student is than one without a teacher whose "
    "labels are smoothed by α = γ; γ is the probability that the teacher's targets give to wrong classes of training "
    "images, times K/(K − 1). The student alone was trained at a few α; between them its accuracy is read off a "
    "straight line, whose error no interval covers. Points beyond the largest of these α are left out.",
    "half-way": "Mutual information of the logits and the training image, of two classes, in nats. Of classes of which "
    "nothing but the class is left, log 2 = 0.69, the estimate is 0.80, since it is of 5 samples per image.",
}
# By the name of the picture
CAPTIONS = {
    "projection.png": "; one seed, and each panel has its own scale",
    "reliability.png": "; all seeds together, so that an ECE may differ from the mean above",
}
