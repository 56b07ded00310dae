"""A speech recogniser of made-up sentences, trained too briefly to know more than that everything runs."""

from demos.reproduce import questions_of_text
from demos.reproduce.experiment import Setting

PAPER = "Table 1 and Figure 4, of other data: WER 8.9 % with hard targets, 7.0 and 6.7 % with smoothing"
COMMANDS = """python -m demos.speech.train --quick
python -m demos.speech.beam_search --from runs/speech/synthetic-lstm --temperatures 0.75 1 1.5 2 --beam-widths 1 4 8"""
SCALES = {"smoke": Setting(COMMANDS, 3)}
PARTS = questions_of_text.speech(0.1)
