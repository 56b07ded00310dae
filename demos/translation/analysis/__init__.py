"""What the commands of the translation demo do."""

RULE = (
    "Next tokens are predicted given the correct ones before them, the end token included, on the test split; "
    "temperatures are fitted on the development split. BLEU and chrF are sacrebleu's, of the whole split, cased and "
    "detokenised unless said otherwise."
)
