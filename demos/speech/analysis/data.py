"""What is learned and measured on: the features of a corpus, and its transcripts as tokens."""

import os

import numpy as np

from demos.kit.download import cache_directory
from demos.kit.options import Chosen
from demos.sequence import tokenizers
from demos.sequence.training import Data
from demos.speech import corpora
from demos.speech.analysis.evaluation import Utterances
from demos.speech.corpora import feature_cache
from demos.speech.corpora.batches import over_limit, too_long
from demos.speech.networks.recognisers import encoded_lengths

LONG = 60.0  # seconds


def load(options: Chosen, known: tokenizers.Tokens | None = None, fingerprint: str | None = None) -> Data:
    """The corpus of the command line, in tokens that are `known` or else learned from the training transcripts.

    A corpus with another fingerprint than the one given is a ValueError.
    """
    corpus = corpora.load(options)
    if fingerprint not in (None, corpus.fingerprint()):
        raise ValueError(f"The corpus ({corpus.name}) has changed since the models were trained.")
    directory = os.path.expanduser(options.cache_dir) if options.cache_dir else cache_directory() / "features"
    made = (directory, options.normalisation, options.skip_bad, options.workers)
    found = {split: feature_cache.open_features(corpus, split, *made) for split in corpora.SPLITS}
    if known is None:
        known = tokenizers.learn(options.tokens, found["train"].transcripts, options.vocabulary_size)
    usable = (options.max_seconds, options.skip_bad)
    splits = {name: make_split(known, split, *usable) for name, split in found.items()}
    longest = max(split.features.num_frames.max() for split in splits.values()) / 100
    if longest > LONG:
        print(
            f"Note: the longest recording lasts {longest:.0f} s, and attention needs memory for each token and moment: "
            "--max-seconds N says which are too long."
        )
    max_tokens = int(encoded_lengths(max(splits[name].features.num_frames.max() for name in ("dev", "test"))))
    skipped = {name: split.features.skipped for name, split in splits.items()}
    return Data(corpus.name, splits, known, corpus.fingerprint(), max_tokens, skipped)


def make_split(
    known: tokenizers.Tokens, found: feature_cache.FeatureSet, max_seconds: float | None, skip_bad: bool
) -> Utterances:
    """The split, in which utterances that are too long, of unknown characters or of too many tokens, are bad.

    There may be as many tokens as the audio allows.
    """
    ids: list[np.ndarray] = []
    bad = {}
    for i, transcript in enumerate(found.transcripts):
        try:
            ids.append(known.encode(transcript))
        except tokenizers.UnknownCharacter as error:
            ids.append(np.empty(0, "int32"))
            bad[i] = f"{found.keys[i]}: {error}."
    bad.update({**too_long(found, ids), **over_limit(found, max_seconds)})
    return Utterances(found.without(bad, skip_bad), [row for i, row in enumerate(ids) if i not in bad])
