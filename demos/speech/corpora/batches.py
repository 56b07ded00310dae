"""Batches for `tf.data`: bucketed by length into few shapes, each a function of the seed and its step alone."""

import functools
import warnings

import numpy as np
import tensorflow as tf

from demos.kit.cli import optional
from demos.sequence.buckets import Bucket, buckets, endless, shuffled_batches, sorted_batches, teacher_forcing
from demos.speech.corpora.feature_cache import FeatureSet
from demos.speech.sound.features import NUM_MELS, REDUCTION

# SpecAugment (Park et al. 2019): masks per utterance, channels and share of the frames that one covers at most.
FREQUENCY_MASKS, FREQUENCY_WIDTH = 2, 15
TIME_MASKS, TIME_SHARE = 2, 0.08
BANK, GRID = 1024, 500  # masks drawn once, and their resolution in time
TOKENS, MELS = tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None, None, NUM_MELS), tf.float32)
SIGNATURE = {"features": MELS, "num_frames": tf.TensorSpec((None,), tf.int32), "tokens": TOKENS}, TOKENS


def over_limit(features: FeatureSet, max_seconds: float | None) -> dict[int, str]:
    """Lines on utterances that last longer than `max_seconds`, by their indices; without a limit there are none."""
    seconds = features.num_frames / 100
    if max_seconds is None:
        return {}
    return {
        int(i): f"{features.keys[i]}: it lasts {seconds[i]:.1f} s, more than the {max_seconds:g} s of --max-seconds."
        for i in np.flatnonzero(seconds > max_seconds)
    }


def too_long(features: FeatureSet, token_ids: list[np.ndarray]) -> dict[int, str]:
    """Lines on utterances with more tokens than their audio allows, one per `REDUCTION` frames, by their indices."""
    allowed = features.num_frames // REDUCTION
    return {
        i: f"{features.keys[i]}: its transcript has {len(ids)} tokens, more than the {allowed[i]} that "
        f"{features.num_frames[i] / 100:.2f} s of audio allow."
        for i, ids in enumerate(token_ids)
        if len(ids) > allowed[i]
    }


def training_batches(
    features: FeatureSet, token_ids: list[np.ndarray], batch_size: int, seed: int, first_step: int = 0, augment=True
):
    """Endless batches from `first_step` on, pass after pass over the data in new orders, with or without SpecAugment.

    A batch depends on nothing but (seed, step). Utterances that do not fill a last batch are left out of that pass,
    different ones each time. It is a ValueError if there are fewer than `batch_size`, or if a transcript is longer than
    its audio allows.

    Returns:
        A `tf.data.Dataset` of (x, y): x = {"features": (B, T, 80) float32, "num_frames": (B,) int32, "tokens":
        (B, U) int32, the start token and the labels}, y = (B, U) int32, the labels and the end token, then -1.
    """
    groups = _buckets(features, token_ids)
    if not 1 <= batch_size <= len(features):
        raise ValueError(
            f"`batch_size` must be from 1 to the number of training utterances ({len(features)}). "
            f"Received: batch_size={batch_size}."
        )
    plan = functools.partial(shuffled_batches, groups, batch_size, seed)
    bank = mask_bank(seed) if augment else None

    def made():
        for step, bucket in endless(plan, first_step):
            yield (*_batch(features, token_ids, bucket), step)

    def finished(x, y, step):
        if bank is not None:
            x = {**x, "features": spec_augment(x["features"], x["num_frames"], bank, seed, step)}
        return x, y

    dataset = tf.data.Dataset.from_generator(made, output_signature=(*SIGNATURE, tf.TensorSpec((), tf.int64)))
    return dataset.map(finished, num_parallel_calls=2).prefetch(8)


def evaluation_batches(features: FeatureSet, token_ids: list[np.ndarray], batch_size: int):
    """One pass from the shortest utterance to the longest; the last batch may be smaller.

    It is a `tf.data.Dataset` of (x, y, indices): as `training_batches`, and (B,) int32 places in `features`.
    """
    plan = sorted_batches(_buckets(features, token_ids), batch_size)
    dataset = tf.data.Dataset.from_generator(
        lambda: ((*_batch(features, token_ids, bucket), bucket.rows) for bucket in plan),
        output_signature=(*SIGNATURE, tf.TensorSpec((None,), tf.int32)),
    )
    return dataset.apply(tf.data.experimental.assert_cardinality(len(plan))).prefetch(4)


@functools.cache
def tensorflow_io():
    """The package tensorflow_io, imported without its warnings.

    These say that file systems and decoders do not load beside newer versions of TensorFlow; masks need neither.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="unable to load|file system plugins", category=UserWarning)
        return optional("tensorflow_io", "SpecAugment (Python up to 3.12)", extra="speech")


def mask_bank(seed: int):
    """Masks drawn by tensorflow-io: float32 (`BANK`, `NUM_MELS`) of channels and (`BANK`, `GRID`) of time, 0 or 1.

    tensorflow-io draws from a random state that knows no step. Drawn once, and chosen from by (seed, step), its masks
    are the same in a resumed run.
    """
    audio = tensorflow_io().audio

    def draw(_):
        tf.compat.v1.set_random_seed(seed)  # in the graph of this function alone
        channels = audio.freq_mask(tf.ones((1, NUM_MELS)), FREQUENCY_WIDTH + 1)
        time = audio.time_mask(tf.ones((GRID, 1)), int(TIME_SHARE * GRID) + 1)
        return channels[0], time[:, 0]

    return next(iter(tf.data.Dataset.range(BANK).map(draw).batch(BANK)))


def spec_augment(features, num_frames, bank, seed, step):
    """Lays masks of the bank over a batch: 0, the mean of normalised features, in some channels and for some time.

    Features are a tensor (B, T, `NUM_MELS`); a mask in time covers a share of an utterance's `num_frames`, (B,).
    """
    channels, time = bank
    shape = (FREQUENCY_MASKS + TIME_MASKS, tf.shape(features)[0])
    rows = tf.random.stateless_uniform(shape, tf.stack([tf.cast(seed, tf.int64), step]), 0, BANK, tf.int32)
    kept = tf.reduce_prod(tf.gather(channels, rows[:FREQUENCY_MASKS]), 0)
    places = tf.range(tf.shape(features)[1])[None] * GRID // tf.maximum(num_frames, 1)[:, None]
    over_time = tf.reduce_prod(tf.gather(time, rows[FREQUENCY_MASKS:]), 0)
    kept_time = tf.gather(over_time, tf.minimum(places, GRID - 1), batch_dims=1)
    return features * kept[:, None, :] * kept_time[:, :, None]


def _buckets(features: FeatureSet, token_ids: list[np.ndarray]) -> list[Bucket]:
    if len(token_ids) != len(features):
        raise ValueError(f"`token_ids` must be one array for each of {len(features)} utterances. Got {len(token_ids)}.")
    if bad := too_long(features, token_ids):
        raise ValueError(next(iter(bad.values())))
    return buckets(features.num_frames, np.array([len(ids) for ids in token_ids]))


def _batch(features: FeatureSet, token_ids: list[np.ndarray], bucket: Bucket):
    """Padded arrays: x, y."""
    rows, frames, width = bucket
    mels = np.zeros((len(rows), frames, NUM_MELS), "float32")
    for i, row in enumerate(rows):
        mels[i, : features.num_frames[row]] = features[row]
    tokens, y = teacher_forcing([token_ids[row] for row in rows], width)
    return {"features": mels, "num_frames": features.num_frames[rows], "tokens": tokens}, y
