"""What the commands do once their arguments are read."""

# The rule that --help and results.json state.
RULE = (
    "Token accuracy, NLL (nats) and ECE (15 bins) are of the next token given the correct ones before it, the end "
    "token included. The temperature is fitted on the development split. WER and CER are of whole texts, found by beam "
    "search at temperature 1: greedily (width 1), and with --beam-width and --length-penalty. All are of the test "
    "split, except those called dev."
)
SOUND = {"librosa": "Making features", "soundfile": "Reading audio", "soxr": "Resampling audio"}
PACKAGES = {"jiwer": "Word error rates", **SOUND}
