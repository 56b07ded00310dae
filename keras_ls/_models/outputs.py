"""Outputs of a model, selected by the names that `fit` uses for them."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops, tree

from keras_ls._backend import get_mask
from keras_ls._checks import check_string, shown


def output_names(model: keras.Model) -> list[str] | None:
    """Returns the names of a model's outputs in the order of `tree.flatten`; None if it does not show its outputs.

    Those in a dict are its keys; where a value is a nest itself, all keys that lead to them: "key/0" or "key/other".
    """
    if not getattr(model, "outputs", None):
        return None
    structure = None if isinstance(model, keras.Sequential) else getattr(model, "output", None)
    if isinstance(structure, dict):
        places = tree.pack_sequence_as(structure, list(range(len(model.outputs))))  # an OrderedDict keeps its order
        return [name for _, name in sorted(_paths(places))]
    return list(getattr(model, "output_names", None) or [model.layers[-1].name])  # a Sequential has no names


def has_own_call(layer: Any) -> bool:
    """Whether the `call` of a layer, or of the model that it trains, is a user's, who may compute something else."""
    module = type(layer).call.__module__ or ""  # code run by `exec` may have none
    if module.startswith("keras_ls.") and hasattr(layer, "_inner"):
        return has_own_call(layer._inner)
    return not module.startswith(("keras.", "keras_ls."))


def output_model(model: keras.Model, output: str | None) -> keras.Model:
    """Returns `model` if it has one output, else a functional model on the same layers with the output `output`.

    Args:
        model: a Keras model.
        output: the name of the output, or None if there is only one.

    Raises:
        ValueError: If there is no such output, or several and none is named, or several and a `call` of its own.
    """
    names = output_names(model)
    if names is None:
        if output is not None:
            raise ValueError(
                "`output` needs a built functional or Sequential `model`, which shows its outputs. "
                f"Received: output={shown(output)} and {model.name!r} ({type(model).__name__})."
            )
        return model
    place = _place(names, output)
    if len(names) == 1:
        return model
    if has_own_call(model):
        raise ValueError(
            "`model` with several outputs must not have a `call` of its own, which may change them. "
            f"Received: {model.name!r} ({type(model).__name__})."
        )
    return keras.Model(
        symbolic_inputs(model), model.outputs[place], name=f"{model.name}_{names[place].replace('/', '_')}"
    )


def mask_of_positions(outputs: Any) -> Any:
    """Returns the mask (N, …) or (N, …, 1) that outputs (N, …, K) carry, without the 1; None if there is none.

    Keras hands on that of a `Softmax`, too, which is of classes.
    """
    mask = get_mask(outputs)
    if mask is not None and len(mask.shape) == len(outputs.shape) and mask.shape[-1] == 1:
        mask = ops.squeeze(mask, axis=-1)
    if mask is None or not len(mask.shape) < len(outputs.shape) or mask.shape[0] not in (None, outputs.shape[0]):
        return None
    return mask


def symbolic_inputs(model: keras.Model) -> Any:
    """Returns the symbolic inputs of a built functional or Sequential model, in the structure that it takes."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def check_output(model: keras.Model, output: Any) -> list[str] | None:
    """Checks `output` against the names of a model's outputs, and returns those; None if it does not show them.

    Raises:
        ValueError: As for `output_model`; if the model does not show its outputs, only if `output` is not a string.
    """
    names = output_names(model)
    if names is not None:
        _place(names, output)
    elif output is not None:
        check_string("output", output)
    return names


def of_output(values: Any, output: str | None, names: list[str] | None) -> Any:
    """Returns the part of labels, weights or predictions, given as `fit` takes them, that belongs to one output.

    Args:
        values: a dict by output names, or nested as the model's outputs are, a list or tuple in the order of outputs,
            or only the part of this output.
        output: the name of the output; None if there is only one, whose part may still be given by its name.
        names: the names of all outputs, or None if the model does not show them.

    Raises:
        ValueError: If a dict does not hold `output`.
    """
    if output is None:
        if isinstance(values, dict) and len(values) == 1 and (names is None or list(values) == names):
            return next(iter(values.values()))
        return values
    if isinstance(values, dict):
        if output in values:
            return values[output]
        with contextlib.suppress(LookupError, ValueError):
            return _at(values, output)
        held = ", ".join(map(repr, sorted(map(str, values))))
        raise ValueError(f"A dict by outputs must hold `output`, {output!r}. Received keys: {held}.")
    if isinstance(values, (list, tuple)) and names is not None and len(values) == len(names) > 1:
        return values[names.index(output)]
    return values


def single(values: Any, advice: str = "", name: str = "model") -> Any:
    """Returns the only leaf of a nest of outputs.

    Raises:
        ValueError: If there are several; the message begins with the argument's `name` and ends in `advice`.
    """
    leaves = tree.flatten(values)
    if len(leaves) != 1:
        raise ValueError(f"`{name}` must have one output. Received: {len(leaves)} outputs. {advice}".rstrip())
    return leaves[0]


def _paths(places: Any, before: str = "") -> Iterator[tuple[int, str]]:
    """The places in a nest, each with the keys that lead to it."""
    if isinstance(places, int):
        yield places, before
        return
    for key, value in places.items() if isinstance(places, dict) else enumerate(places):
        yield from _paths(value, f"{before}/{key}" if before else str(key))


def _at(values: Any, path: str) -> Any:
    """What a nest holds at a path such as "key/0"; a LookupError or ValueError if there is nothing."""
    for key in path.split("/"):
        if not isinstance(values, (dict, list, tuple)):
            raise KeyError(path)
        values = values[key] if isinstance(values, dict) else values[int(key)]
    return values


def _place(names: list[str], output: str | None) -> int:
    if output is None:
        if len(names) == 1:
            return 0
        raise ValueError(
            "`model` must have one output, or `output` must name one. Received: output=None, outputs "
            f"{', '.join(map(repr, names))}."
        )
    if not isinstance(output, str) or names.count(output) != 1:
        known, advice = ", ".join(map(repr, names)), ""
        if names.count(output) > 1:
            advice = " Of several with one name, give `keras.Model(model.inputs, model.outputs[i])` as the model."
        raise ValueError(
            f"`output` must name one output of `model` ({known}). Received: output={shown(output)}.{advice}"
        )
    return names.index(output)
