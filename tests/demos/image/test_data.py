"""The image demo's data: where it is looked for, how it is split and augmented, what is refused."""

import os

import keras
import numpy as np
import pytest
from image_files import cifar_like, image_folders
from PIL import Image

from demos.image.data import draw, load
from demos.image.data.common.augment import crop_and_flip
from demos.image.data.common.batches import Batches
from demos.image.data.common.images import ImageData

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")


class TestDigits:
    def test_split(self):
        data = load("digits")
        assert data.x_train.shape == (900, 8, 8, 1)
        assert data.x_test.shape == (897, 8, 8, 1)
        assert data.x_train.dtype == np.uint8
        assert data.x_train.max() == 255
        assert data.num_classes == 10
        assert set(data.y_train) == set(data.y_test) == set(range(10))

    def test_noise_is_seeded_and_of_the_size_asked_for(self):
        clean, noisy, again = (load("digits", noise=noise) for noise in (0.0, 0.1, 0.1))
        np.testing.assert_array_equal(noisy.x_train, again.x_train)
        inside = (clean.x_train > 100) & (clean.x_train < 155)  # four deviations from being clipped
        difference = noisy.x_train[inside].astype(float) - clean.x_train[inside]
        assert difference.std() == pytest.approx(25.5, rel=0.03)
        assert difference.mean() == pytest.approx(0, abs=1)

    def test_fingerprint_tells_data_apart(self):
        first, second = load("digits"), load("digits", noise=0.1)
        assert first.fingerprint == load("digits").fingerprint
        assert first.fingerprint != second.fingerprint


class TestTables:
    @pytest.mark.parametrize(
        ("name", "train", "held_out", "features", "classes"),
        [("wine", 89, 89, 13, 3), ("breast_cancer", 285, 284, 30, 2)],
    )
    def test_rows_are_pictures_of_one_line(self, name, train, held_out, features, classes):
        data = load(name)
        assert data.x_train.shape == (train, 1, features, 1)
        assert data.x_test.shape == (held_out, 1, features, 1)
        assert data.num_classes == classes
        assert (data.x_train.min(0) == 0).all()
        assert (data.x_train.max(0) == 255).all()


class TestDraw:
    def test_draws_the_same_training_images_and_leaves_the_others(self):
        data = load("digits")
        drawn, again = draw(data, 50), draw(data, 50)
        assert len(drawn.x_train) == len(drawn.y_train) == 50
        assert drawn.fingerprint == again.fingerprint
        np.testing.assert_array_equal(drawn.x_test, data.x_test)
        images = {image.tobytes(): label for image, label in zip(data.x_train, data.y_train, strict=True)}
        assert all(images[x.tobytes()] == y for x, y in zip(drawn.x_train, drawn.y_train, strict=True))

    def test_more_than_there_are(self):
        with pytest.raises(ValueError, match=r"--train-images must be at most 900\. Received: 901\."):
            draw(load("digits"), 901)


class TestNamed:
    def test_cifar_is_split_four_to_one_and_its_test_images_are_not_used(self, tmp_path):
        data = load("cifar10", str(cifar_like(tmp_path)))
        assert (len(data.x_train), len(data.x_test)) == (40, 10)
        seen = np.concatenate([data.x_train[:, 0, 0, 0], data.x_test[:, 0, 0, 0]])
        assert sorted(seen) == list(range(50))
        np.testing.assert_array_equal(data.x_train[:, 0, 0, 0] % 10, data.y_train)
        assert data.y_train.shape == (40,)

    def test_mnist_keeps_its_parts_and_gets_a_channel(self, tmp_path):
        x, y = np.zeros((20, 28, 28), "uint8"), np.arange(20, dtype="uint8") % 10
        cifar_like(tmp_path, "mnist", x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])
        data = load("mnist", str(tmp_path))
        assert data.x_train.shape == (20, 28, 28, 1)
        assert data.x_test.shape == (10, 28, 28, 1)

    def test_class_names_in_the_file_are_kept(self, tmp_path):
        names = [f"class {k}" for k in range(10)]
        data = load("cifar10", str(cifar_like(tmp_path, class_names=np.array(names))))
        assert data.class_names == tuple(names)
        data = load("cifar10", str(cifar_like(tmp_path, class_names=np.array(names, "S"))))
        assert data.class_names == tuple(names)
        with pytest.raises(ValueError, match="class names of cifar10 must differ"):
            load("cifar10", str(cifar_like(tmp_path, class_names=np.array([*names[:9], "class 0"]))))

    def test_class_names_that_the_file_lacks(self, tmp_path):
        directory = str(cifar_like(tmp_path))
        assert load("cifar10", directory).class_names[:3] == ("airplane", "automobile", "bird")
        cifar_like(tmp_path, "cifar100", images=200, classes=100)
        names = load("cifar100", directory).class_names
        assert len(set(names)) == 100
        assert (names[4], names[30], names[55], names[99]) == ("beaver", "dolphin", "otter", "worm")
        cifar_like(tmp_path, classes=7)
        assert load("cifar10", directory).class_names == tuple("0123456")

    def test_directory_from_the_environment(self, tmp_path, monkeypatch):
        monkeypatch.setenv("KERAS_LS_DATA", str(cifar_like(tmp_path)))
        empty = tmp_path / "empty"
        empty.mkdir()
        assert len(load("cifar10", str(empty)).x_train) == 40

    def test_keras_datasets_come_last(self, monkeypatch):
        x, y = np.zeros((10, 32, 32, 3), "uint8"), np.arange(10)[:, None]
        monkeypatch.delenv("KERAS_LS_DATA", raising=False)
        monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: ((x, y), (x, y)))
        assert len(load("cifar10").x_train) == 8

    def test_absent_and_offline_names_both_ways(self, monkeypatch):
        def offline():
            raise Exception("URL fetch failure on https://…: None --\n no route to host")

        monkeypatch.delenv("KERAS_LS_DATA", raising=False)
        monkeypatch.setattr(keras.datasets.cifar100, "load_data", offline)
        with pytest.raises(ValueError, match=r"cifar100\.npz.*--data-dir or \$KERAS_LS_DATA.*network"):
            load("cifar100")

    @pytest.mark.parametrize(
        ("replace", "message"),
        [
            ({"y_train": None}, "y_train missing"),
            ({"x_train": np.zeros((50, 32, 32, 3), "float32")}, "uint8"),
            ({"x_train": np.zeros((50, 32), "uint8")}, r"\(50, 32\)"),
            ({"y_train": np.zeros(49, "uint8")}, r"one integer per image.*\(49,\)"),
            ({"y_train": np.full(50, 0.5)}, "float64"),
        ],
    )
    def test_refused_files(self, tmp_path, replace, message):
        with pytest.raises(ValueError, match=message):
            load("cifar10", str(cifar_like(tmp_path, **replace)))

    def test_refused_broken_file(self, tmp_path):
        for content in (b"", b"PK\x03\x04 broken", b"text"):
            (tmp_path / "cifar10.npz").write_bytes(content)
            with pytest.raises(ValueError, match=r"cifar10\.npz cannot be read"):
                load("cifar10", str(tmp_path))

    @pytest.mark.parametrize("label", [10**9, 2**40])
    def test_refused_labels_beyond_all_images(self, tmp_path, label):
        directory = cifar_like(tmp_path, y_train=np.full(50, label))
        with pytest.raises(ValueError, match=r"cifar10 has a label of [\d,]+, but 50 training images"):
            load("cifar10", str(directory))

    def test_refused_labels_beyond_the_class_names(self, tmp_path):
        directory = cifar_like(tmp_path, class_names=np.array(["a", "b"]))
        with pytest.raises(ValueError, match=r"labels of cifar10 must be in \[0, 2\)"):
            load("cifar10", str(directory))


class TestFolder:
    def test_classes_sizes_and_labels(self, tmp_path):
        data = load("folder", str(image_folders(tmp_path)), image_size=16)
        assert data.x_train.shape == (6, 16, 16, 3)
        assert data.class_names == ("cat", "dog")
        assert data.y_train.tolist() == [0, 0, 0, 1, 1, 1]
        assert data.x_train[data.y_train == 0].max() < 60 < data.x_train[data.y_train == 1].min()

    @pytest.mark.parametrize("mode", ["L", "LA", "1"])
    def test_grey_images_have_one_channel(self, tmp_path, mode):
        assert load("folder", str(image_folders(tmp_path, mode))).x_test.shape == (6, 32, 32, 1)

    @pytest.mark.parametrize("mode", ["P", "RGBA"])
    def test_other_modes_become_rgb(self, tmp_path, mode):
        assert load("folder", str(image_folders(tmp_path, mode))).x_test.shape == (6, 32, 32, 3)

    def test_one_colour_image_makes_all_rgb(self, tmp_path):
        image_folders(tmp_path, "L")
        Image.new("RGB", (9, 9), (255, 0, 0)).save(tmp_path / "test" / "dog" / "z.png")
        data = load("folder", str(tmp_path))
        assert data.x_train.shape == (6, 32, 32, 3)
        assert data.x_test[-1, 0, 0].tolist() == [255, 0, 0]

    def test_sixteen_bits_are_scaled(self, tmp_path):
        image_folders(tmp_path, "L")
        Image.fromarray(np.full((9, 9), 0x80FF, "uint16")).save(tmp_path / "train" / "cat" / "a.png")
        data = load("folder", str(tmp_path))
        assert data.x_train.shape[-1] == 1
        assert np.unique(data.x_train[3]).tolist() == [0x80]  # after 0.png, 1.png and 2.png

    def test_eight_bits_in_a_file_of_32_stay(self, tmp_path):
        image_folders(tmp_path, "L")
        Image.fromarray(np.full((9, 9), 0x80, "int32")).save(tmp_path / "train" / "cat" / "a.tif")
        assert np.unique(load("folder", str(tmp_path)).x_train[3]).tolist() == [0x80]

    @pytest.mark.parametrize(
        "mode", ["RGBA", "LA", "P"], ids=["of colours", "of grey values", "of a palette with a transparent entry"]
    )
    def test_what_is_transparent_is_white(self, tmp_path, mode):
        folder = image_folders(tmp_path, mode) / "train" / "cat"
        empty, options = Image.new(mode, (9, 9)), {"transparency": 0} if mode == "P" else {}
        empty.save(folder / "a.png", **options)
        assert np.unique(load("folder", str(tmp_path)).x_train[3]).tolist() == [255]

    @pytest.mark.parametrize(("mode", "name"), [("RGB", "a.png"), ("RGBA", "a.png"), ("I;16", "a.png")])
    def test_photographs_are_turned_as_they_say(self, tmp_path, mode, name):
        values = np.zeros((9, 9), "uint16")
        values[:3] = 2**16 - 1  # bright above; turned by a quarter, on the right
        image = (
            Image.fromarray(values) if mode == "I;16" else Image.fromarray((values >> 8).astype("uint8")).convert(mode)
        )
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(image_folders(tmp_path, "L") / "train" / "cat" / name, exif=exif)
        found = load("folder", str(tmp_path)).x_train[3, ..., 0]
        assert found[:, -3:].min() > 200 > 50 > found[:, :3].max()

    def test_names_that_are_not_utf8_can_be_written(self, tmp_path):
        folder = os.fsencode(image_folders(tmp_path)) + b"/%s/caf\xe9"
        for part in (b"train", b"test"):
            try:
                os.rename(os.fsencode(tmp_path) + b"/" + part + b"/cat", folder % part)
            except OSError:
                pytest.skip("the file system takes UTF-8 alone")
        assert load("folder", str(tmp_path)).class_names == ("caf\ufffd", "dog")

    @pytest.mark.parametrize("values", [np.full((9, 9), 0.5, "float32"), np.full((9, 9), 2**16), np.full((9, 9), -1)])
    def test_numbers_of_no_known_range_are_refused(self, tmp_path, values):
        path = image_folders(tmp_path, "L") / "train" / "cat" / "a.tiff"
        Image.fromarray(values if values.dtype == "float32" else values.astype("int32")).save(path)
        with pytest.raises(ValueError, match=r"a\.tiff cannot be read as an image: its numbers are not of 8 or of 16"):
            load("folder", str(tmp_path))

    @pytest.mark.parametrize("content", [b"no image", b"", b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"])
    def test_unreadable_image_is_named(self, tmp_path, content):
        path = image_folders(tmp_path) / "test" / "dog" / "broken.png"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"test/dog/broken\.png cannot be read as an image"):
            load("folder", str(tmp_path))

    def test_truncated_image_is_named(self, tmp_path):
        path = image_folders(tmp_path) / "train" / "cat" / "1.png"
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ValueError, match=r"train/cat/1\.png cannot be read"):
            load("folder", str(tmp_path))

    def test_hidden_files_are_passed_over(self, tmp_path):
        (image_folders(tmp_path) / "train" / "cat" / ".DS_Store").write_bytes(b"x")
        assert len(load("folder", str(tmp_path)).x_train) == 6

    def test_refused_layouts(self, tmp_path):
        with pytest.raises(ValueError, match="needs --data-dir"):
            load("folder")
        with pytest.raises(ValueError, match="train is not a directory"):
            load("folder", str(tmp_path))
        image_folders(tmp_path)
        (tmp_path / "train" / "bird").mkdir()
        with pytest.raises(ValueError, match=r"same classes.*\['bird'\]"):
            load("folder", str(tmp_path))
        (tmp_path / "test" / "bird").mkdir()
        with pytest.raises(ValueError, match="bird holds no images"):
            load("folder", str(tmp_path))
        for part in ("train", "test"):
            (tmp_path / part / "bird").rmdir()
        name = min(path.name for path in (tmp_path / "train").iterdir())
        (tmp_path / "train" / name / "puppies").mkdir()
        with pytest.raises(ValueError, match=rf"{name} must hold images, not folders. Received: puppies"):
            load("folder", str(tmp_path))


def test_refused_parts():
    x, y = np.zeros((4, 2, 2, 1), "uint8"), np.array([0, 1, 0, 1], "int32")
    with pytest.raises(ValueError, match="test part of toy holds no images"):
        ImageData("toy", x, y, x[:0], y[:0], ("a", "b"))
    with pytest.raises(ValueError, match="one size"):
        ImageData("toy", x, y, x[:, :1], y, ("a", "b"))
    with pytest.raises(ValueError, match="4 images but 3 labels"):
        ImageData("toy", x, y[:3], x, y, ("a", "b"))
    with pytest.raises(ValueError, match="at least 2 classes"):
        ImageData("toy", x, y * 0, x, y * 0, ("a",))


class TestCropAndFlip:
    def test_each_image_is_a_window_of_itself_padded(self, rng):
        images = rng.integers(1, 255, (200, 6, 5, 3)).astype("uint8")
        out = crop_and_flip(images, np.random.default_rng(7), padding=2)
        assert out.shape == images.shape
        assert out.dtype == np.uint8
        padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
        found = set()
        for original, result in zip(padded, out, strict=True):
            places = [
                (y, x, step)
                for y in range(5)
                for x in range(5)
                for step in (1, -1)
                if (original[y : y + 6, x : x + 5][:, ::step] == result).all()
            ]
            assert len(places) == 1
            found |= set(places)
        assert found == {(y, x, step) for y in range(5) for x in range(5) for step in (1, -1)}

    def test_is_a_function_of_the_generator_and_leaves_its_input(self, rng):
        images = rng.integers(0, 255, (16, 8, 8, 1)).astype("uint8")
        copy = images.copy()
        first, second, third = (crop_and_flip(images, np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, second)
        assert (first != third).any()
        np.testing.assert_array_equal(images, copy)


class TestBatches:
    x = np.arange(10, dtype="uint8")[:, None, None, None] * np.ones((1, 4, 4, 1), "uint8")
    y = np.arange(10, dtype="int32")

    def test_each_pass_shows_each_image_at_most_once_in_a_new_order(self):
        batches = Batches(self.x, self.y, 3, seed=0)
        passes = [np.concatenate([batches[3 * p + b][1] for b in range(3)]) for p in range(20)]
        assert all(len(set(labels)) == 9 for labels in passes)
        assert len({tuple(labels) for labels in passes}) == 20
        assert set(np.concatenate(passes)) == set(range(10))
        images, labels = batches[4]
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)

    @pytest.mark.parametrize("augment", [False, True])
    def test_a_batch_depends_on_seed_and_place_alone(self, augment):
        whole = Batches(self.x, self.y, 3, seed=5, augment=augment)
        expected = [whole[i] for i in range(12)]
        resumed = Batches(self.x, self.y, 3, seed=5, augment=augment, first=7)
        for i in (4, 0, 3):
            for got, wanted in zip(resumed[i], expected[7 + i], strict=True):
                np.testing.assert_array_equal(got, wanted)
        other = Batches(self.x, self.y, 3, seed=6, augment=augment)
        assert any((other[i][1] != expected[i][1]).any() for i in range(12))

    @pytest.mark.parametrize("batch_size", [0, 11])
    def test_refused_batch_size(self, batch_size):
        with pytest.raises(ValueError, match=rf"\(10\). Received: batch_size={batch_size}"):
            Batches(self.x, self.y, batch_size, seed=0)
