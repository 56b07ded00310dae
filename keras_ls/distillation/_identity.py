"""Short digests that distinguish one teacher's logits for one set of inputs from all others."""

import contextlib
import hashlib
import json
import pathlib
import tempfile
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ls.distillation._inputs import update_digest

# Where a config of Keras holds names of layers.
_NAMES = ("name", "keras_history", "input_layers", "output_layers")


def teacher_digest(teacher: keras.Model) -> str:
    """Returns a digest of a teacher's weights and of its layers' settings, whatever their names.

    Attributes of a subclass that no `get_config` tells of are not seen.
    """
    digest = hashlib.blake2b(_architecture(teacher).encode())
    for variable in teacher.weights:
        array = ops.convert_to_numpy(variable)
        digest.update(f"{variable.dtype} {array.shape}".encode())
        update_digest(digest, array)
    for layer in teacher._flatten_layers():
        # Adapted vocabularies and their weights are neither settings nor weights of the model.
        if hasattr(layer, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                layer.save_assets(folder)
                for file in sorted(each for each in pathlib.Path(folder).rglob("*") if each.is_file()):
                    if (place := file.relative_to(folder)).parent.name:  # in a subfolder
                        digest.update(place.as_posix().encode())
                    digest.update(file.read_bytes())
            arrays: dict = {}
            layer.save_own_variables(arrays)
            for array in arrays.values():
                update_digest(digest, ops.convert_to_numpy(array))
    return digest.hexdigest()


def identity_of(*parts: str) -> str:
    """Returns one digest, of 32 hexadecimal digits, of several texts."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _architecture(model: keras.Model) -> str:
    layers = list(model._flatten_layers())
    # Keras numbers layers in the order in which a process creates them, so their names mean nothing.
    numbers = {layer.name: f"#{index}" for index, layer in reversed(list(enumerate(layers)))}
    try:
        config = keras.saving.serialize_keras_object(model)
        whole = [config["class_name"], config["config"]]
    except (NotImplementedError, TypeError, ValueError):  # a subclass without a config
        whole = []
    own: Any = whole
    if not (whole and all(_tells_of_its_layers(layer) for layer in layers)):
        own = [whole, [[type(layer).__qualname__, layer.dtype_policy.name, _settings(layer)] for layer in layers]]
    return json.dumps(_renamed(own, numbers), sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    """What JSON has for a setting that is an array, a tensor or a number of NumPy; the type of others."""
    if ops.is_tensor(value):
        value = ops.convert_to_numpy(value)
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.hasobject:
        return str(type(value))
    return [str(value.dtype), list(value.shape), hashlib.blake2b(value.tobytes(), digest_size=16).hexdigest()]


def _tells_of_its_layers(layer: keras.Layer) -> bool:
    """Whether its config holds those of the layers inside, as that of a subclass need not."""
    return not layer._layers or type(layer).__module__.partition(".")[0] == "keras"


def _settings(layer: keras.Layer) -> dict[str, Any] | None:
    """What a layer was made with, less what changes no output; None of models, and where it does not say."""
    if isinstance(layer, keras.Model):  # what it holds comes on its own
        return None
    with contextlib.suppress(Exception):  # whatever its author lets it raise
        return {name: value for name, value in layer.get_config().items() if name != "trainable"}
    return None


def _renamed(value: Any, names: dict[str, str], key: str = "") -> Any:
    """A config in which layers have other names, where a name stands and not where a setting happens to be the same.

    Whether a layer is frozen changes no output.
    """
    if isinstance(value, dict):
        return {name: name == "trainable" or _renamed(entry, names, name) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_renamed(entry, names, key) for entry in value]
    return names.get(value, value) if isinstance(value, str) and key in _NAMES else value
