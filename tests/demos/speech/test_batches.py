"""Features on disk, and batches of them: made once, never half, the same after a resume."""

import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from harness import slow
from speech_files import Deadly, Noises

from demos.kit.errors import MissingExtra
from demos.sequence import buckets
from demos.sequence.tokenizers import END, START
from demos.speech.corpora import batches, feature_cache
from demos.speech.corpora.babble import WithBabble
from demos.speech.sound import features
from demos.speech.sound.headers import Unreadable

pytest.importorskip("librosa", reason="features need librosa")
ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture
def parts_of_4(monkeypatch):
    monkeypatch.setattr(feature_cache, "PART", 4)


def unreadable(utterance):
    raise Unreadable(f"{utterance.key} cannot be read: Permission denied")


def token_ids(feature_set):
    return [np.frombuffer(text.encode(), "uint8").astype("int32") for text in feature_set.transcripts]


class TestFeatureCache:
    @pytest.mark.parametrize("normalisation", ["utterance", "corpus"])
    def test_what_is_read_back(self, tmp_path, parts_of_4, normalisation):
        corpus = Noises()
        opened = feature_cache.open_features(corpus, "test", tmp_path, normalisation)
        made = {u.key: features.log_mel(corpus.waveform(u)) for found in corpus.splits.values() for u in found}
        frames = np.concatenate([made[u.key] for u in corpus.splits["train"]])
        assert len(opened) == 5
        assert opened.keys == [f"test-{i}" for i in range(5)]
        assert opened.transcripts == [u.transcript for u in corpus.splits["test"]]
        assert opened.skipped == []
        for i, key in enumerate(opened.keys):
            expected = made[key]
            over = expected if normalisation == "utterance" else frames
            assert opened.num_frames[i] == len(expected)
            assert opened[i].dtype == np.float32
            np.testing.assert_allclose(opened.raw(i), expected, atol=2e-3)
            np.testing.assert_allclose(opened[i], (expected - over.mean(0)) / over.std(0), atol=0.03)

    def test_made_once(self, tmp_path, parts_of_4, capsys):
        corpus = Noises()
        first = feature_cache.open_features(corpus, "train", tmp_path)
        assert len(corpus.made) == 20
        assert "20 utterances" in capsys.readouterr().out
        again = feature_cache.open_features(corpus, "train", tmp_path)
        assert len(corpus.made) == 20
        assert capsys.readouterr().out == ""
        np.testing.assert_array_equal(first[7], again[7])

    @pytest.mark.parametrize(
        "other", [{"name": "more"}, {"train": 19}, {"settings": {"snr": 3}}, {"test": 4}], ids=lambda c: next(iter(c))
    )
    def test_another_corpus_has_its_own(self, tmp_path, other):
        feature_cache.open_features(Noises(), "train", tmp_path)
        corpus = Noises(**other)
        feature_cache.open_features(corpus, "train", tmp_path)
        assert corpus.made

    def test_several_processes_make_the_same(self, tmp_path, parts_of_4):
        corpus = Noises(train=30, fails=["train-9"])
        with pytest.raises(ValueError, match=r"^train-9 cannot be read\. --skip-bad"):
            feature_cache.open_features(corpus, "train", tmp_path / "2", workers=2)
        together = feature_cache.open_features(corpus, "train", tmp_path / "2", skip_bad=True, workers=2)
        alone = feature_cache.open_features(corpus, "train", tmp_path / "1", skip_bad=True)
        assert together.keys == alone.keys
        assert together.skipped == alone.skipped
        for i in range(29):
            np.testing.assert_array_equal(alone[i], together[i])

    def test_a_bad_utterance_is_refused_or_skipped(self, tmp_path, parts_of_4):
        corpus = Noises(fails=["test-1", "test-4"])
        with pytest.raises(ValueError, match=r"^test-1 cannot be read\. --skip-bad leaves such utterances out\.$"):
            feature_cache.open_features(corpus, "test", tmp_path)
        opened = feature_cache.open_features(corpus, "test", tmp_path, skip_bad=True)
        assert opened.keys == ["test-0", "test-2", "test-3"]
        assert opened.skipped == ["test-1 cannot be read.", "test-4 cannot be read."]
        expected = features.log_mel(corpus.waveform(corpus.splits["test"][3]))
        np.testing.assert_allclose(opened.raw(2), expected, atol=2e-3)
        with pytest.raises(ValueError, match=r"test-1 cannot be read\. \(2 utterances are bad\) --skip-bad"):
            feature_cache.open_features(corpus, "test", tmp_path)

    def test_what_could_not_be_read_then_is_read_when_it_can_be(self, tmp_path, parts_of_4):
        corpus = Noises()
        waveform, corpus.waveform = corpus.waveform, unreadable
        with pytest.raises(ValueError, match="Every utterance is bad"):
            feature_cache.open_features(corpus, "test", tmp_path, skip_bad=True)
        corpus.waveform = waveform
        assert len(feature_cache.open_features(corpus, "test", tmp_path, skip_bad=True)) == 5

    def test_babble_without_what_could_not_be_read_then_is_made_anew(self, tmp_path, parts_of_4):
        plain = Noises()
        waveform = plain.waveform
        plain.waveform = lambda each: unreadable(each) if each.key == "train-0" else waveform(each)
        without = feature_cache.open_features(WithBabble(plain, 0, 0), "test", tmp_path)[0].copy()
        plain.waveform = waveform
        opened = feature_cache.open_features(WithBabble(plain, 0, 0), "test", tmp_path)
        fresh = feature_cache.open_features(WithBabble(plain, 0, 0), "test", tmp_path / "fresh")
        for i in range(5):
            np.testing.assert_array_equal(opened[i], fresh[i])
        assert np.any(opened[0] != without)
        plain.made.clear()
        feature_cache.open_features(WithBabble(plain, 0, 0), "test", tmp_path)
        assert not plain.made

    def test_nothing_but_bad_utterances(self, tmp_path):
        corpus = Noises(fails=[f"dev-{i}" for i in range(3)])
        with pytest.raises(ValueError, match=r"Every utterance is bad. The first: dev-0 cannot be read"):
            feature_cache.open_features(corpus, "dev", tmp_path, skip_bad=True)

    def test_damaged_parts_are_made_again(self, tmp_path, parts_of_4):
        opened = feature_cache.open_features(Noises(), "train", tmp_path)
        first = [opened[i] for i in range(20)]
        (folder,) = tmp_path.iterdir()
        (folder / "00000.npy").write_bytes((folder / "00000.npy").read_bytes()[:-100])
        (folder / "00001.json").write_text("{")
        (folder / "00002.json").unlink()
        (folder / "00003.npy").write_bytes(b"")
        values = bytearray((folder / "00004.npy").read_bytes())
        values[-40] ^= 1
        (folder / "00004.npy").write_bytes(values)
        corpus = Noises()
        again = feature_cache.open_features(corpus, "train", tmp_path)
        assert corpus.made == [f"train-{i}" for i in range(20)]
        for i in range(20):
            np.testing.assert_array_equal(first[i], again[i])

    @pytest.mark.parametrize(("of_header", "bit"), [(b"<f2", 2), (b"}", 1)])
    def test_a_part_whose_header_is_damaged_is_made_again(self, tmp_path, of_header, bit):
        first = feature_cache.open_features(Noises(), "dev", tmp_path)[0]
        (path,) = tmp_path.glob("*/*.npy")
        content = bytearray(path.read_bytes())
        content[content.index(of_header)] ^= bit
        path.write_bytes(content)
        corpus = Noises()
        np.testing.assert_array_equal(feature_cache.open_features(corpus, "dev", tmp_path)[0], first)
        assert corpus.made

    @pytest.mark.skipif(not pathlib.Path("/proc/self/fd").exists(), reason="counts open files")
    def test_no_file_stays_open(self, tmp_path, parts_of_4):
        opened = feature_cache.open_features(Noises(), "train", tmp_path)
        assert len(opened[7]) == opened.num_frames[7]
        maps = pathlib.Path("/proc/self/maps").read_text()
        assert str(tmp_path) not in maps

    @pytest.mark.parametrize("place", [slow("audio"), "features", slow("index")])
    def test_killed_at_any_moment_it_goes_on(self, tmp_path, parts_of_4, place):
        program = f"""
import os, signal, sys
sys.path.insert(0, "tests/demos/speech")
from speech_files import Deadly, Noises
from demos.speech.corpora import feature_cache
feature_cache.PART = 4
count = 0
def dying(function, last):
    def wrapped(*args, **kwargs):
        global count
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return wrapped
if {place!r} == "audio":
    Noises.waveform = dying(Noises.waveform, 11)
else:
    os.replace = dying(os.replace, 5 if {place!r} == "features" else 6)
feature_cache.open_features(Noises(), "train", {str(tmp_path)!r})
"""
        run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True)
        assert run.returncode == -signal.SIGKILL, run.stderr.decode()
        corpus = Noises()
        resumed = feature_cache.open_features(corpus, "train", tmp_path)
        assert corpus.made == [f"train-{i}" for i in range(8, 20)]
        for i in (0, 9, 19):
            expected = features.log_mel(corpus.waveform(corpus.splits["train"][i]))
            np.testing.assert_allclose(resumed.raw(i), expected, atol=2e-3)

    def test_processes_end_with_the_one_that_started_them(self):
        program = """
import concurrent.futures, multiprocessing, os, signal
from demos.speech.corpora import feature_cache
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(1, context, feature_cache._end_with_parent)
    pool.submit(os.getpid).result()
    os.kill(os.getpid(), signal.SIGKILL)
"""
        # The worker has the same standard output: what is read here ends only once the worker has.
        run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60)
        assert run.returncode == -signal.SIGKILL, run.stderr.decode()

    def test_a_killed_process_is_one_line(self, tmp_path, parts_of_4):
        with pytest.raises(ValueError, match="was killed, perhaps for lack of memory"):
            feature_cache.open_features(Deadly(train=24), "train", tmp_path, workers=2)

    def test_without(self, tmp_path):
        opened = feature_cache.open_features(Noises(), "test", tmp_path)
        assert opened.without({}, skip_bad=False) is opened
        with pytest.raises(ValueError, match=r"^odd one\. \(2 utterances are bad\) --skip-bad"):
            opened.without({3: "odd too.", 1: "odd one."}, skip_bad=False)
        left = opened.without({3: "odd too.", 1: "odd one."}, skip_bad=True)
        assert left.keys == ["test-0", "test-2", "test-4"]
        assert left.skipped == ["odd one.", "odd too."]
        assert len(left.num_frames) == 3
        np.testing.assert_array_equal(left[2], opened[4])

    def test_refused_normalisation(self, tmp_path):
        with pytest.raises(ValueError, match=r"`normalisation` must be one of utterance, corpus\. Received: 'none'"):
            feature_cache.open_features(Noises(), "dev", tmp_path, "none")


@pytest.fixture(scope="class")
def noises(tmp_path_factory):
    opened = feature_cache.open_features(Noises(train=50), "train", tmp_path_factory.mktemp("features"))
    return opened, token_ids(opened)


def take(dataset, count):
    return [({name: value.numpy() for name, value in x.items()}, y.numpy()) for x, y in dataset.take(count)]


def same(one, other):
    return all(np.array_equal(one[0][name], other[0][name]) for name in one[0]) and np.array_equal(one[1], other[1])


class TestTrainingBatches:
    def test_what_a_batch_holds(self, noises):
        opened, ids = noises
        places = {(f.tobytes(), text.tobytes()): i for i, (f, text) in enumerate(zip(opened, ids, strict=True))}
        shapes = set()
        for x, y in take(batches.training_batches(opened, ids, 8, seed=3, augment=False), 30):
            assert (x["features"].dtype, x["num_frames"].dtype, x["tokens"].dtype, y.dtype) == (
                np.float32,
                np.int32,
                np.int32,
                np.int32,
            )
            shapes.add((x["features"].shape, x["tokens"].shape))
            assert x["features"].shape[1] % 4 == x["tokens"].shape[1] % 4 == 0
            for row in range(8):
                frames, length = x["num_frames"][row], (y[row] >= 0).sum() - 1
                assert (x["features"][row, frames:] == 0).all()
                assert y[row, :length].tolist() == x["tokens"][row, 1 : length + 1].tolist()
                assert (x["tokens"][row, 0], y[row, length]) == (START, END)
                assert (y[row, length + 1 :] == -1).all()
                assert (x["features"][row, :frames].tobytes(), y[row, :length].tobytes()) in places
        assert len(shapes) <= buckets.NUM_BUCKETS

    def test_each_pass_shows_each_utterance_at_most_once_in_a_new_order(self, noises):
        opened, ids = noises
        frames = [x["num_frames"] for x, _ in take(batches.training_batches(opened, ids, 8, 0, augment=False), 18)]
        firsts = [
            x["features"][:, 0, 0] for x, _ in take(batches.training_batches(opened, ids, 8, 0, augment=False), 18)
        ]
        passes = [np.concatenate(firsts[6 * p : 6 * p + 6]) for p in range(3)]
        assert all(len(np.unique(values)) == 48 for values in passes)
        assert not np.array_equal(passes[0], passes[1])
        assert len(np.unique(np.concatenate(passes))) == 50  # who waits in one pass comes in another
        assert all(np.isin(values, opened.num_frames).all() for values in frames)

    @pytest.mark.parametrize("augment", [False, True])
    def test_a_batch_depends_on_seed_and_step_alone(self, noises, augment):
        if augment:
            pytest.importorskip("tensorflow_io", reason="tensorflow-io has no build for this Python")
        opened, ids = noises
        whole = take(batches.training_batches(opened, ids, 8, 5, augment=augment), 20)
        plain = take(batches.training_batches(opened, ids, 8, 5, augment=False), 20)
        for (x, _), (of_plain, _) in zip(whole, plain, strict=True):
            masked = x["features"] != of_plain["features"]
            assert masked.any() == augment
            assert (x["features"][masked] == 0).all()
        for first in (1, 6, 13):
            resumed = take(batches.training_batches(opened, ids, 8, 5, first_step=first, augment=augment), 7)
            assert all(same(a, b) for a, b in zip(resumed, whole[first:], strict=False))
        other = take(batches.training_batches(opened, ids, 8, 6, augment=augment), 1)
        assert not same(other[0], whole[0])

    @pytest.mark.parametrize("batch_size", [0, 51])
    def test_refused_batch_size(self, noises, batch_size):
        with pytest.raises(ValueError, match=rf"\(50\). Received: batch_size={batch_size}"):
            batches.training_batches(*noises, batch_size, 0)

    def test_a_transcript_longer_than_its_audio(self, noises):
        opened, ids = noises
        longest = [len(text) for text in ids]
        longest[4], longest[7] = opened.num_frames[4] // 4, opened.num_frames[7] // 4 + 1
        ids = [np.full(length, 5, "int32") for length in longest]
        found = batches.too_long(opened, ids)
        assert list(found) == [7]
        assert found[7].startswith(
            f"train-7: its transcript has {longest[7]} tokens, more than the {longest[7] - 1} that"
        )
        with pytest.raises(ValueError, match="train-7: its transcript has"):
            batches.training_batches(opened, ids, 4, 0)
        with pytest.raises(ValueError, match="one array for each of 50 utterances"):
            batches.training_batches(opened, ids[1:], 4, 0)

    def test_as_many_utterances_as_a_batch(self, noises):
        opened, ids = noises
        ((x, _),) = take(batches.training_batches(opened, ids, 50, 0, augment=False), 1)
        assert sorted(x["num_frames"]) == sorted(opened.num_frames)


class TestEvaluationBatches:
    @pytest.mark.parametrize("batch_size", [1, 7, 50, 64])
    def test_one_pass_in_order_of_length(self, noises, batch_size):
        opened, ids = noises
        dataset = batches.evaluation_batches(opened, ids, batch_size)
        seen, shapes = [], set()
        for x, y, rows in dataset:
            shapes.add((*x["features"].shape, y.shape[1]))
            for i, row in enumerate(rows.numpy()):
                frames = opened.num_frames[row]
                assert x["num_frames"][i] == frames
                np.testing.assert_array_equal(x["features"][i, :frames], opened[row])
                assert y[i].numpy()[y[i] >= 0].tolist() == [*ids[row].tolist(), 1]
                seen.append(row)
        assert sorted(seen) == list(range(50))
        assert (np.diff(opened.num_frames[seen]) >= 0).all()
        assert len(dataset) == -(-50 // batch_size)
        assert len(shapes) <= buckets.NUM_BUCKETS + 1


class TestSpecAugment:
    @pytest.fixture(autouse=True)
    def _tensorflow_io(self):
        pytest.importorskip("tensorflow_io", reason="tensorflow-io has no build for this Python")

    def test_masks_are_bands_of_channels_and_stretches_of_time(self):
        import tensorflow as tf

        bank = batches.mask_bank(0)
        lengths = np.array([60, 200, 200, 120], "int32")
        share = []
        for step in range(60):
            ones = tf.ones((4, 200, 80))
            masked = batches.spec_augment(ones, lengths, bank, 3, tf.constant(step, tf.int64)).numpy()
            for row, length in zip(masked[:, :, :], lengths, strict=True):
                row = row[:length]
                channels, times = (row == 0).all(0), (row == 0).all(1)
                assert ((row == 0) == (channels[None] | times[:, None])).all()
                assert channels.sum() <= batches.FREQUENCY_MASKS * batches.FREQUENCY_WIDTH
                assert times.sum() <= batches.TIME_MASKS * (batches.TIME_SHARE * length + 1)
                assert np.abs(np.diff(np.r_[0, channels, 0].astype(int))).sum() <= 2 * batches.FREQUENCY_MASKS
                assert np.abs(np.diff(np.r_[0, times, 0].astype(int))).sum() <= 2 * batches.TIME_MASKS
                share.append((channels.mean(), times.mean()))
        assert (np.mean(share, 0) > [0.1, 0.04]).all()
        assert len({pair for pair in share}) > 100

    def test_global_seeds_are_left_alone(self):
        import tensorflow as tf

        tf.random.set_seed(7)
        expected = tf.random.uniform((3,)).numpy()
        tf.random.set_seed(7)
        first = batches.mask_bank(1)
        np.testing.assert_array_equal(tf.random.uniform((3,)).numpy(), expected)
        tf.random.set_seed(8)
        second = batches.mask_bank(1)
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, other)
        assert (first[0].numpy() != batches.mask_bank(2)[0].numpy()).any()


def test_tensorflow_io_loads_without_its_warnings():
    pytest.importorskip("tensorflow_io", reason="tensorflow-io has no build for this Python")
    program = "from demos.speech.corpora import batches; print(batches.tensorflow_io().audio.melscale.__name__)"
    run = subprocess.run(
        [sys.executable, "-W", "always", "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert run.stdout == "melscale\n"
    assert "unable to load" not in run.stderr
    assert "plugins" not in run.stderr


def test_without_tensorflow_io_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    batches.tensorflow_io.cache_clear()
    with pytest.raises(MissingExtra, match=r'tensorflow_io: pip install -e "\.\[speech\]"'):
        batches.tensorflow_io()
