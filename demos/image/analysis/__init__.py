"""What the image demos do with trained networks. Here stand the rules that their help and results.json state."""

HALVES = (
    "The held-out images are cut into two halves at random. Each half is scaled with the temperature that was fitted "
    "on the other one, so every number is over all held-out images and no temperature is judged on its own data. "
    "The temperature shown is the mean of the two."
)
MEASURED_IMAGES = 10_000
SCATTER = (
    "Scatter is of the penultimate activations of all classes, mean squared distances in the span of the differences "
    "of the classes' templates, the paper's plane for all classes at once: within, of an image to the mean of its "
    "class; between, of that to the mean of all; ratio, within / between. Beside it stands the ratio in the whole "
    "space of the activations. Template distance is the mean over pairs of classes, distance cv their s.d. over "
    "that mean (0 where all are equally distant); means' distance cv is the same of the class means in that span, and "
    "correlation says whether classes with distant templates have distant means there (1) or near ones (-1). Of more "
    f"than {MEASURED_IMAGES:,} images that many are drawn, always the same."
)
