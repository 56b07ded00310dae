"""What is learned and measured on: pairs of sentences as tokens, in batches of about one length."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from demos.kit import devices
from demos.kit.options import Chosen
from demos.sequence import buckets
from demos.sequence.buckets import Bucket, padded
from demos.sequence.evaluation import Split
from demos.sequence.tokenizers import END, Subwords
from demos.sequence.training import Data
from demos.translation import corpora
from demos.translation.analysis import scores
from demos.translation.corpora.files import Pairs

NUM_BUCKETS = 8
MOST_MEASURED = 2_000  # tokens of a dev or test sentence, since attention takes the square of it
ROOM = 32  # tokens that a translation may have more than any reference
BATCH_SIZE, MOST_TOKENS = 50, 6_400  # sentences that are searched for at a time, and tokens on a side


class Sentences(Split):
    """A split that a translator is measured on."""

    def __init__(self, pairs: Pairs, tokens: Subwords):
        self.references, self.sources, self.tokens = pairs.targets, pairs.sources, tokens
        self.source_ids = [np.append(tokens.encode(text, strict=False), END) for text in pairs.sources]
        self.token_ids = [tokens.encode(text, strict=False) for text in pairs.targets]

    def batches(self) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
        """One pass of (x, y, indices), the shortest sentences first."""
        for bucket in buckets.sorted_batches(self.buckets(), BATCH_SIZE, MOST_TOKENS):
            yield (*self.batch(bucket), bucket.rows)

    def buckets(self) -> list[Bucket]:
        """Sentences of about one length together."""
        sources, targets = (np.array([len(ids) for ids in side]) for side in (self.source_ids, self.token_ids))
        return buckets.buckets(sources, targets, NUM_BUCKETS)

    def batch(self, bucket: Bucket) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Padded arrays: {"sources" (B, S), "num_sources" (B,), "tokens" (B, U)} and labels (B, U), int32."""
        rows, inputs, width = bucket
        sources, lengths = padded([self.source_ids[row] for row in rows], inputs)
        tokens, y = buckets.teacher_forcing([self.token_ids[row] for row in rows], width)
        return {"sources": sources, "num_sources": lengths, "tokens": tokens}, y

    def text_scores(self, texts: list[str]) -> dict[str, float]:
        """BLEU and chrF, cased and as shares of 1, and the texts' length over the references'."""
        bleu, chrf = (scores.metrics()[name].corpus_score(texts, [self.references]) for name in ("bleu", "chrf"))
        return {"bleu": bleu.score / 100, "chrf": chrf.score / 100, "length_ratio": bleu.ratio}

    def quality(self, text: str, place: int) -> float:
        """The chrF of one sentence."""
        return scores.metrics()["chrf"].sentence_score(text, [self.references[place]]).score

    def inputs(self, place: int) -> list[str]:
        """The pieces of the source sentence."""
        return [*self.tokens.pieces(self.source_ids[place][:-1]), "end"]

    def about(self, place: int) -> dict[str, str]:
        """The source sentence and its translation."""
        return {"source": self.sources[place], **super().about(place)}

    def part(self, rows: Sequence[int]) -> "Sentences":
        """The sentences of some rows."""
        sources, references = ([side[row] for row in rows] for side in (self.sources, self.references))
        return Sentences(Pairs(sources, references, [], []), self.tokens)


def load(options: Chosen, known: Subwords | None = None, fingerprint: str | None = None) -> Data:
    """The corpus of the command line, in tokens that are `known` or else learned from the training pairs.

    A corpus with another fingerprint than the one given is a ValueError.
    """
    corpus = corpora.load(options)
    if fingerprint not in (None, corpus.fingerprint):
        raise ValueError(f"The corpus ({corpus.name}) has changed since the models were trained.")
    train = corpus.splits["train"]
    tokens = known or Subwords.learn([*train.sources, *train.targets], options.vocabulary_size)
    splits, skipped = {}, {}
    for name, pairs in corpus.splits.items():
        most = options.max_tokens if name == "train" else MOST_MEASURED
        splits[name], long = _short_enough(name, Sentences(pairs, tokens), most)
        left_out = [f"{pairs.places[i]} has more than {most} tokens with the end token." for i in long]
        if left_out and name != "train" and not options.skip_bad:
            raise ValueError(f"{left_out[0]} --skip-bad leaves such lines out.")
        skipped[name] = [*pairs.skipped, *left_out]
    longest = max(len(ids) for split in ("dev", "test") for ids in splits[split].token_ids)
    return Data(corpus.name, splits, tokens, corpus.fingerprint, longest + ROOM, skipped)


def _short_enough(name: str, split: Sentences, most: int) -> tuple[Sentences, list[int]]:
    """The sentences without those that have more tokens, or whose translations have, and the rows of these."""
    lengths = np.maximum([len(ids) for ids in split.source_ids], [len(ids) + 1 for ids in split.token_ids])
    if lengths.min() > most:
        limit = "--max-tokens" if name == "train" else f"The limit of {most} tokens"
        raise ValueError(f"{limit} leaves no pair of the {name} split: the shortest has {lengths.min()}.")
    long = np.flatnonzero(lengths > most).tolist()
    return split.part(np.flatnonzero(lengths <= most).tolist()) if long else split, long


def training_plan(train: Sentences, batch_tokens: int, seed: int, epoch: int) -> list[Bucket]:
    """The batches of an epoch."""
    return buckets.token_batches(train.buckets(), batch_tokens, seed, epoch)


def training_batches(train: Sentences, batch_tokens: int, seed: int, first_step: int = 0) -> Any:
    """Endless (x, y) from `first_step` on, as `fit` takes them; a batch depends on the seed and its step alone."""

    def made() -> Iterator[Any]:
        for _, bucket in buckets.endless(functools.partial(training_plan, train, batch_tokens, seed), first_step):
            yield buckets.filled(*train.batch(bucket), devices.engine().number)

    if keras.backend.backend() != "tensorflow":
        return made()
    import tensorflow as tf

    tokens = tf.TensorSpec((None, None), tf.int32)
    x = {"sources": tokens, "num_sources": tf.TensorSpec((None,), tf.int32), "tokens": tokens}
    return tf.data.Dataset.from_generator(made, output_signature=(x, tokens)).prefetch(4)
