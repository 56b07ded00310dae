"""What smoothing does to networks of digits with more and more noise, which makes them more and more over-confident."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting

PAPER = "section 3: smoothing calibrates networks that are over-confident; no rule for which these are"
LEVELS = (0, 0.2, 0.4, 0.6, 0.8)
SCALES = {
    "cpu": Setting("python -m demos.image.calibration", 5, trials=tuple(f"--noise {level:g}" for level in LEVELS)),
}
WHY = {
    "cpu": {
        "advice": "With little noise hard targets are only a little over-confident: smoothing takes away more "
        "confidence than that, and the result is under-confident."
    }
}
PARTS = questions.advice({f"noise {level:g}": {"noise": level} for level in LEVELS})
