"""What smoothing does to the next letters of a recogniser of spoken digits."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting, by_network

PAPER = "section 3: smoothing calibrates networks that are over-confident; no rule for which these are"
COMMANDS = """python -m demos.speech.train --corpus fsdd --units 128 --no-augment --train-sentences 20000 \
    --steps 2000 --label-smoothing 0 0.05 0.1"""
SHOWN = "docs/speech.md: Spoken digits: where it does not help"
SCALES = {"cpu": Setting(COMMANDS, 14, trials=by_network(0, 0.05, 0.1), shown=SHOWN)}
WHY = {
    "cpu": {
        "advice": "Hard targets are calibrated as they are: smoothing only takes away a confidence that is justified."
    }
}
PARTS = questions.advice({"spoken digits": {}}, demo="demos.speech.train")
