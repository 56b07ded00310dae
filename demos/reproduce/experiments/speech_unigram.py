"""The recogniser of `speech_multi30k`, smoothed towards how often characters occur, as the paper's reference 10."""

from demos.reproduce import questions_of_text
from demos.reproduce.experiment import Setting, by_seed
from demos.reproduce.experiments.speech_multi30k import RECOGNISER
from demos.reproduce.experiments.speech_multi30k import RUN_ON as CAPTIONS

COMMANDS = f"""{RECOGNISER} --smoothing-kind unigram --label-smoothing 0.1 --out runs/speech/unigram
python -m demos.speech.beam_search --from runs/speech/unigram"""
PAPER = "Table 1 and Figure 4, of other data: WER 8.9 % with hard targets, 7.0 and 6.7 % with smoothing"
HARD_TARGETS = "speech_multi30k"
RUN_ON = CAPTIONS
SCALES = {"cpu": Setting(COMMANDS, 25, "2 cores of an Intel Xeon", by_seed())}
PARTS = questions_of_text.speech_beside_other_networks(0.1)
