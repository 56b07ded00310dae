"""What Keras keeps to itself: found wherever a version of Keras has it, and named in one file only."""

import importlib
import pathlib
import sys
import types

import keras
import numpy as np
import pytest
from harness import BACKEND, numpy
from keras import ops

import keras_ls
from keras_ls import _backend
from keras_ls._models.random_state import kept_random_state, seeded

PACKAGE = pathlib.Path(keras_ls.__file__).parent


def test_modules_of_keras_that_are_not_public_are_named_in_one_file():
    files = [path.name for path in PACKAGE.rglob("*.py") if "keras.src" in path.read_text(encoding="utf-8")]
    assert files == ["_backend.py"]


@pytest.fixture
def places(monkeypatch):
    """Two modules that may be there or not: a function that shows them with the names that it is given."""

    monkeypatch.setattr(_backend, "_FOUND", {})

    def show(**modules):
        for place in ("newer_place", "older_place"):
            module = None
            if modules.get(place) is not None:
                module = types.ModuleType(place)
                vars(module).update(modules[place])
            monkeypatch.setitem(sys.modules, place, module)  # None makes its import fail

    return show


class TestPlaces:
    def find(self):
        return _backend._keras_internal("answer", "newer_place", "older_place")

    def test_the_first_that_has_it_is_taken(self, places):
        places(newer_place={"answer": 1}, older_place={"answer": 2})
        assert self.find() == 1

    def test_a_module_that_is_gone_is_passed_over(self, places):
        places(older_place={"answer": 2})
        assert self.find() == 2

    def test_a_module_that_lost_the_name_is_passed_over(self, places):
        places(newer_place={"other": 1}, older_place={"answer": 2})
        assert self.find() == 2

    def test_the_error_names_the_version_and_the_places(self, places):
        places(newer_place={"other": 1})
        with pytest.raises(ImportError, match=r"`answer`.*Keras 3.* newer_place or older_place") as caught:
            self.find()
        assert keras.__version__ in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_masks_are_found_where_either_place_is_hidden(self, monkeypatch):
        monkeypatch.setattr(_backend, "_FOUND", {})
        newer, older = _backend._MASKING
        modules = {place: importlib.import_module(place) for place in (newer, older)}
        functions = {name: getattr(modules[newer], name) for name in ("get_keras_mask", "set_keras_mask")}
        for name, function in functions.items():
            monkeypatch.setattr(modules[older], name, function, raising=False)  # as in Keras up to 3.15
        for hidden in (newer, older):
            with monkeypatch.context() as context:
                for name in functions:
                    context.delattr(modules[hidden], name)
                x = ops.ones((2,))
                _backend.set_mask(x, ops.convert_to_tensor([True, False]))
                np.testing.assert_array_equal(numpy(_backend.get_mask(x)), [True, False])
        for name in functions:
            for module in modules.values():
                monkeypatch.delattr(module, name)
        with pytest.raises(ImportError, match="`get_keras_mask`.*" + newer):
            _backend.get_mask(x)


def test_a_mask_is_the_one_that_keras_hands_along():
    x = keras.layers.Masking()(np.array([[[1.0], [0.0], [2.0]]], "float32"))
    np.testing.assert_array_equal(numpy(_backend.get_mask(x)), [[True, False, True]])
    assert _backend.get_mask(ops.ones((2,))) is None


def test_what_is_attached_to_a_tensor_is_found_there():
    x = ops.ones((2,))
    assert _backend.attached(x, "_keras_ls_test") is None
    _backend.attach(x, "_keras_ls_test", "kept")
    assert _backend.attached(x, "_keras_ls_test") == "kept"


class TestGlobalGenerator:
    def draw(self):
        return float(numpy(keras.random.uniform(())))

    def reseed(self):
        keras.utils.clear_session()  # Keras 3.12 goes on with its generator otherwise
        keras.utils.set_random_seed(3)

    def test_the_same_seed_draws_the_same(self):
        drawn = []
        for seed in (5, 5, 6):
            with seeded(seed, []):
                drawn.append([self.draw(), self.draw()])
        assert drawn[0] == drawn[1]
        assert drawn[0] != drawn[2]
        assert drawn[0][0] != drawn[0][1]

    @pytest.mark.parametrize("within", [kept_random_state, lambda: seeded(5, [])], ids=["kept", "seeded"])
    @pytest.mark.parametrize("before", [0, 1], ids=["not drawn before", "drawn before"])
    def test_draws_go_on_where_they_were(self, before, within):
        self.reseed()
        expected = [self.draw() for _ in range(before + 1)]
        self.reseed()
        found = [self.draw() for _ in range(before)]
        with within():
            self.draw()
        assert [*found, self.draw()] == expected


class TestOutputSpec:
    def test_is_the_shape_and_dtype(self):
        given = {"a": keras.KerasTensor((None, 3)), "b": keras.KerasTensor((None, 2), "int32")}
        found = _backend.output_spec(lambda x: [ops.sum(x["a"], axis=-1), x["b"] + 1], given)
        assert [(x.shape, x.dtype) for x in found] == [((None,), "float32"), ((None, 2), "int32")]

    def test_leaves_automatic_names_as_they_were(self):
        keras.utils.clear_session()
        _backend.output_spec(lambda x: x, keras.KerasTensor((2,)))
        assert keras.Operation().name == "operation"


@pytest.mark.skipif(BACKEND != "torch", reason="Apple's GPUs are PyTorch's")
def test_devices_without_float64_get_float32(monkeypatch):
    import torch

    as_tensor = torch.as_tensor

    def without_float64(data, dtype=None, device=None):
        if getattr(data, "dtype", None) == "float64" and dtype is None:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype.")
        return as_tensor(data, dtype=dtype, device=device)

    monkeypatch.setattr(torch, "as_tensor", without_float64)
    found = keras_ls.smooth_labels(np.array([[0.0, 1.0, 0.0, 0.0]]), 0.1)
    np.testing.assert_allclose(numpy(found), [[0.025, 0.925, 0.025, 0.025]])


def test_another_frameworks_error_says_why_it_is_no_array():
    class OnAGPU:
        def __array__(self, *arguments, **how):
            raise TypeError("can't convert a tensor on a GPU")

    with pytest.raises(ValueError, match=r"`y_pred` must be an array of real numbers.*can't convert a tensor on a GPU"):
        keras_ls.diagnose_predictions([0], OnAGPU())
