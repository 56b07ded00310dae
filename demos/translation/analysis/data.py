"""What is learned and measured on: pairs of sentences as tokens, in batches of about one length."""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from demos.kit import cli
from demos.kit.options import Chosen
from demos.sequence.buckets import Bucket, buckets, sorted_batches, teacher_forcing
from demos.sequence.evaluation import Split
from demos.sequence.tokenizers import END, Subwords
from demos.sequence.training import Data
from demos.translation import corpora
from demos.translation.corpora.files import Pairs

NUM_BUCKETS = 8
ROOM = 32  # tokens that a translation may have more than any reference
BATCH_SIZE = 50  # sentences that are searched for at a time


class Sentences(Split):
    """A split that a translator is measured on."""

    def __init__(self, pairs: Pairs, tokens: Subwords):
        self.references, self.sources, self.tokens = pairs.targets, pairs.sources, tokens
        self.source_ids = [np.append(tokens.encode(text, strict=False), END) for text in pairs.sources]
        self.token_ids = [tokens.encode(text, strict=False) for text in pairs.targets]

    def batches(self) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
        """One pass of (x, y, indices), the shortest sentences first."""
        for bucket in sorted_batches(_buckets(self), BATCH_SIZE):
            yield (*batch(self, bucket), bucket.rows)

    def error_rates(self, texts: list[str]) -> dict[str, float]:
        """BLEU and chrF, cased and as shares of 1, and the texts' length over the references'."""
        score = bleu().corpus_score(texts, [self.references])
        chrf_score = chrf().corpus_score(texts, [self.references]).score
        return {"bleu": score.score / 100, "chrf": chrf_score / 100, "length_ratio": score.ratio}

    def quality(self, text: str, place: int) -> float:
        """The chrF of one sentence."""
        return chrf().sentence_score(text, [self.references[place]]).score

    def inputs(self, place: int) -> list[str]:
        """The pieces of the source sentence."""
        return [*self.tokens.pieces(self.source_ids[place][:-1]), "end"]

    def about(self, place: int) -> dict[str, str]:
        """The source sentence and its translation."""
        return {"source": self.sources[place], **super().about(place)}

    def first(self, count: int) -> "Sentences":
        """The first sentences."""
        pairs = Pairs(self.sources[:count], list(self.references[:count]), [])
        return Sentences(pairs, self.tokens)


def load(options: Chosen, known: Subwords | None = None, fingerprint: str | None = None) -> Data:
    """The corpus of the command line, in tokens that are `known` or else learned from the training pairs.

    A corpus with another fingerprint than the one given is a ValueError.
    """
    corpus = corpora.load(options)
    if fingerprint not in (None, corpus.fingerprint):
        raise ValueError(f"The corpus ({corpus.name}) has changed since the models were trained.")
    train = corpus.splits["train"]
    tokens = known or Subwords.learn([*train.sources, *train.targets], options.vocabulary_size)
    splits = {name: Sentences(pairs, tokens) for name, pairs in corpus.splits.items()}
    skipped = {name: list(pairs.skipped) for name, pairs in corpus.splits.items()}
    splits["train"], long = _short_enough(splits["train"], options.max_tokens)
    skipped["train"] += [f"Training pair {i + 1} has more than {options.max_tokens} tokens." for i in long]
    longest = max(len(ids) for split in ("dev", "test") for ids in splits[split].token_ids)
    return Data(corpus.name, splits, tokens, corpus.fingerprint, longest + ROOM, skipped)


def _short_enough(train: Sentences, most: int) -> tuple[Sentences, list[int]]:
    lengths = np.maximum([len(ids) for ids in train.source_ids], [len(ids) + 1 for ids in train.token_ids])
    long = np.flatnonzero(lengths > most).tolist()
    if len(long) == len(lengths):
        raise ValueError(f"--max-tokens leaves no training pair: the shortest has {lengths.min()}.")
    for side in ("references", "sources", "source_ids", "token_ids"):
        values = getattr(train, side)
        setattr(train, side, [value for value, length in zip(values, lengths, strict=True) if length <= most])
    return train, long


def training_plan(train: Sentences, batch_tokens: int, seed: int, epoch: int) -> list[Bucket]:
    """The batches of an epoch, in random order: as many sentences of a bucket as its tokens allow.

    The last batch of a bucket is filled up with others of it, so that there are few shapes.
    """
    rng = np.random.default_rng([seed, epoch])
    planned = []
    for rows, inputs, tokens in _buckets(train):
        size = min(max(1, batch_tokens // max(inputs, tokens)), len(rows))
        order = rng.permutation(rows)
        order = np.concatenate([order, rng.choice(rows, -len(rows) % size, replace=False)])
        planned += [Bucket(part, inputs, tokens) for part in order.reshape(-1, size)]
    return [planned[i] for i in rng.permutation(len(planned))]


def training_batches(train: Sentences, batch_tokens: int, seed: int, first_step: int = 0) -> Any:
    """Endless (x, y) from `first_step` on, as `fit` takes them; a batch depends on the seed and its step alone."""
    length = len(training_plan(train, batch_tokens, seed, 0))
    plan = functools.lru_cache(maxsize=1)(lambda epoch: training_plan(train, batch_tokens, seed, epoch))

    def made() -> Iterator[Any]:
        for step in itertools.count(first_step):
            epoch, place = divmod(step, length)
            yield batch(train, plan(epoch)[place])

    if keras.backend.backend() != "tensorflow":
        return made()
    import tensorflow as tf

    tokens = tf.TensorSpec((None, None), tf.int32)
    x = {"sources": tokens, "num_sources": tf.TensorSpec((None,), tf.int32), "tokens": tokens}
    return tf.data.Dataset.from_generator(made, output_signature=(x, tokens)).prefetch(4)


def batch(split: Sentences, bucket: Bucket) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Padded arrays: {"sources" (B, S), "num_sources" (B,), "tokens" (B, U)} and labels (B, U), int32."""
    rows, inputs, width = bucket
    lengths = np.array([len(split.source_ids[row]) for row in rows], "int32")
    sources = np.full((len(rows), inputs), END, "int32")
    for i, row in enumerate(rows):
        sources[i, : lengths[i]] = split.source_ids[row]
    tokens, y = teacher_forcing([split.token_ids[row] for row in rows], width)
    return {"sources": sources, "num_sources": lengths, "tokens": tokens}, y


def _buckets(split: Sentences) -> list[Bucket]:
    sources, targets = (np.array([len(ids) for ids in side]) for side in (split.source_ids, split.token_ids))
    return buckets(sources, targets, NUM_BUCKETS)


def sacrebleu() -> Any:
    """The package that measures translations."""
    return cli.optional("sacrebleu", "Measuring translations", extra="translation")


@functools.cache
def chrf() -> Any:
    """ChrF as sacrebleu defines it."""
    return sacrebleu().CHRF()


@functools.cache
def bleu(lowercase: bool = False) -> Any:
    """BLEU as sacrebleu defines it (13a, smoothing exp)."""
    return sacrebleu().BLEU(lowercase=lowercase)


def signature() -> str:
    """What sacrebleu says of how its BLEU was computed, after it has been."""
    return str(bleu().get_signature())
