"""Batches for `tf.data`: bucketed by length into few shapes, each a function of the seed and its step alone."""

import functools

import numpy as np

from demos.sequence.buckets import Bucket, buckets, shuffled_batches, sorted_batches
from demos.sequence.tokenizers import END, IGNORED, START
from demos.speech.corpora.feature_cache import FeatureSet
from demos.speech.sound import features as mel
from demos.speech.sound.features import REDUCTION

# SpecAugment (Park et al. 2019): masks per utterance, channels and share of the frames that one covers at most.
FREQUENCY_MASKS, FREQUENCY_WIDTH = 2, 15
TIME_MASKS, TIME_SHARE = 2, 0.08
BANK, GRID = 1024, 500  # masks drawn once, and their resolution in time


def too_long(features: FeatureSet, token_ids: list[np.ndarray]) -> dict[int, str]:
    """The utterances with more tokens than their audio allows, one for `REDUCTION` frames: index to a line."""
    allowed = features.num_frames // REDUCTION
    return {
        i: f"{features.keys[i]}: its transcript has {len(ids)} tokens, more than the {allowed[i]} that "
        f"{features.num_frames[i] / 100:.2f} s of audio allow."
        for i, ids in enumerate(token_ids)
        if len(ids) > allowed[i]
    }


def training_batches(
    features: FeatureSet,
    token_ids: list[np.ndarray],
    batch_size: int,
    seed: int,
    first_step: int = 0,
    augment: bool = True,
):
    """Endless batches, pass after pass over the data, each in a new order.

    A batch depends on nothing but (seed, step). Utterances that do not fill a last batch wait for the next pass.

    Args:
        features: of the training split.
        token_ids: the tokens of each transcript, without start and end.
        batch_size: utterances per batch, at most N.
        seed: integer of at least 0.
        first_step: steps already taken.
        augment: whether SpecAugment masks are laid over the features.

    Returns:
        A `tf.data.Dataset` of (x, y): x = {"features": (B, T, 80) float32, "num_frames": (B,) int32, "tokens":
        (B, U) int32, the start token and the labels}, y = (B, U) int32, the labels and the end token, then -1.

    Raises:
        ValueError: If `batch_size` is beyond the data, or a transcript is longer than its audio allows.
    """
    import tensorflow as tf

    _check(features, token_ids)
    if not 1 <= batch_size <= len(features):
        raise ValueError(
            f"`batch_size` must be from 1 to the number of training utterances ({len(features)}). "
            f"Received: batch_size={batch_size}."
        )
    groups = buckets(features.num_frames, np.array([len(ids) for ids in token_ids]))
    plan = functools.lru_cache(maxsize=2)(lambda epoch: shuffled_batches(groups, batch_size, seed, epoch))
    batches_per_epoch = len(features) // batch_size

    def assemble(step):
        epoch, batch = divmod(int(step), batches_per_epoch)
        return _batch(features, token_ids, plan(epoch)[batch])

    dataset = tf.data.Dataset.range(first_step, np.iinfo("int64").max)
    dataset = dataset.map(lambda step: (step, _in_graph(assemble, step)), num_parallel_calls=2)
    if augment:
        bank = mask_bank(seed)
        dataset = dataset.map(lambda step, batch: _augmented(batch, bank, seed, step), num_parallel_calls=2)
    else:
        dataset = dataset.map(lambda _, batch: batch)
    return dataset.prefetch(8)


def evaluation_batches(features: FeatureSet, token_ids: list[np.ndarray], batch_size: int):
    """One pass from the shortest utterance to the longest; the last batch may be smaller.

    Args:
        features: of any split.
        token_ids: as for `training_batches`.
        batch_size: utterances per batch.

    Returns:
        A `tf.data.Dataset` of (x, y, indices): as `training_batches`, and (B,) int32 places in `features`.
    """
    import tensorflow as tf

    _check(features, token_ids)
    groups = buckets(features.num_frames, np.array([len(ids) for ids in token_ids]))
    plan = sorted_batches(groups, batch_size)

    def assemble(step):
        return _batch(features, token_ids, plan[int(step)])

    def load(step):
        x, y = _in_graph(assemble, step)
        rows = tf.numpy_function(lambda i: plan[int(i)].rows.astype("int32"), [step], tf.int32)
        return x, y, tf.ensure_shape(rows, (None,))

    dataset = tf.data.Dataset.range(len(plan)).map(load, num_parallel_calls=2)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(plan))).prefetch(4)


def mask_bank(seed: int):
    """Masks drawn by tensorflow-io: float32 (`BANK`, `NUM_MELS`) of channels and (`BANK`, `GRID`) of time, 0 or 1.

    tensorflow-io draws from a random state that knows no step. Drawn once, and chosen from by (seed, step), its masks
    are the same in a resumed run.
    """
    import tensorflow as tf

    audio = mel.tensorflow_io().audio

    def draw(_):
        tf.compat.v1.set_random_seed(seed)  # of this function's graph alone
        channels = audio.freq_mask(tf.ones((1, mel.NUM_MELS)), FREQUENCY_WIDTH + 1)
        time = audio.time_mask(tf.ones((GRID, 1)), int(TIME_SHARE * GRID) + 1)
        return channels[0], time[:, 0]

    return next(iter(tf.data.Dataset.range(BANK).map(draw).batch(BANK)))


def spec_augment(features, num_frames, bank, seed, step):
    """Lays masks over a batch: 0, the mean of normalised features, in some channels and for some time.

    Args:
        features: (B, T, `NUM_MELS`) float32 tensor, normalised and padded.
        num_frames: (B,) int32 tensor, true lengths; a mask in time covers a share of them.
        bank: of `mask_bank`.
        seed: integer.
        step: integer tensor.

    Returns:
        Tensor of the shape of `features`.
    """
    import tensorflow as tf

    channels, time = bank
    shape = (FREQUENCY_MASKS + TIME_MASKS, tf.shape(features)[0])
    rows = tf.random.stateless_uniform(shape, tf.stack([tf.cast(seed, tf.int64), step]), 0, BANK, tf.int32)
    kept = tf.reduce_prod(tf.gather(channels, rows[:FREQUENCY_MASKS]), 0)
    places = tf.range(tf.shape(features)[1])[None] * GRID // tf.maximum(num_frames, 1)[:, None]
    over_time = tf.reduce_prod(tf.gather(time, rows[FREQUENCY_MASKS:]), 0)
    kept_time = tf.gather(over_time, tf.minimum(places, GRID - 1), batch_dims=1)
    return features * kept[:, None, :] * kept_time[:, :, None]


def _augmented(batch, bank, seed, step):
    x, y = batch
    return {**x, "features": spec_augment(x["features"], x["num_frames"], bank, seed, step)}, y


def _batch(features: FeatureSet, token_ids: list[np.ndarray], bucket: Bucket):
    """Padded arrays: features, num_frames, tokens, y."""
    rows, frames, width = bucket
    x = np.zeros((len(rows), frames, mel.NUM_MELS), "float32")
    tokens = np.full((len(rows), width), END, "int32")
    y = np.full((len(rows), width), IGNORED, "int32")
    tokens[:, 0] = START
    for i, row in enumerate(rows):
        ids = token_ids[row]
        x[i, : features.num_frames[row]] = features[row]
        tokens[i, 1 : len(ids) + 1] = ids
        y[i, : len(ids)] = ids
        y[i, len(ids)] = END
    return x, features.num_frames[rows].astype("int32"), tokens, y


def _in_graph(assemble, step):
    import tensorflow as tf

    types = (tf.float32, tf.int32, tf.int32, tf.int32)
    features, num_frames, tokens, y = tf.numpy_function(assemble, [step], types)
    x = {
        "features": tf.ensure_shape(features, (None, None, mel.NUM_MELS)),
        "num_frames": tf.ensure_shape(num_frames, (None,)),
        "tokens": tf.ensure_shape(tokens, (None, None)),
    }
    return x, tf.ensure_shape(y, (None, None))


def _check(features: FeatureSet, token_ids: list[np.ndarray]) -> None:
    if len(token_ids) != len(features):
        raise ValueError(f"`token_ids` must be one array for each of {len(features)} utterances. Got {len(token_ids)}.")
    if bad := too_long(features, token_ids):
        raise ValueError(next(iter(bad.values())))
