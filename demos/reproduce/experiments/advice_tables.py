"""What smoothing does to networks of two small tables of scikit-learn."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting

PAPER = "section 3: smoothing calibrates networks that are over-confident; no rule for which these are"
TABLES = ("wine", "breast_cancer")
SCALES = {
    "cpu": Setting("python -m demos.image.calibration", 2, trials=tuple(f"--dataset {name}" for name in TABLES)),
}
WHY = {
    "cpu": {
        "advice": "Hard targets are over-confident, but by a few points only, since nearly all of their predictions "
        "are right. Smoothing by 0.1 takes away more confidence than that."
    }
}
PARTS = questions.advice({name: {"dataset": name} for name in TABLES})
