"""One of several outputs of a model, called by the name that `fit` knows it by."""

from typing import Any

import keras
from keras import tree

from keras_ls._checks import check_string, shown


def output_names(model: keras.Model) -> list[str] | None:
    """The names of a model's outputs, in the order in which `tree.flatten` gives them; None if it does not show any."""
    if not getattr(model, "outputs", None):
        return None
    structure = None if isinstance(model, keras.Sequential) else getattr(model, "output", None)
    if isinstance(structure, dict) and len(structure) == len(model.outputs):
        return sorted(structure)
    return list(getattr(model, "output_names", None) or [model.layers[-1].name])  # a Sequential has no names


def output_model(model: keras.Model, output: str | None, name: str = "model") -> keras.Model:
    """Returns `model` if it has one output, else a functional model, on the same layers, of the one called `output`.

    Args:
        model: a Keras model.
        output: the name of the output, or None if there is only one.
        name: what the caller calls `model`, for messages.

    Raises:
        ValueError: If there is no such output, or several and none is named.
    """
    names = output_names(model)
    if names is None:
        if output is not None:
            raise ValueError(
                f"`output` needs a built functional or Sequential `{name}`, which shows its outputs. "
                f"Received: output={shown(output)} and {model.name!r} ({type(model).__name__})."
            )
        return model
    place = _place(names, output, name)
    if len(names) == 1:
        return model
    return keras.Model(symbolic_inputs(model), model.outputs[place], name=f"{model.name}_{names[place]}")


def symbolic_inputs(model: keras.Model) -> Any:
    """The symbolic inputs of a built functional or Sequential model, in the structure in which it takes them."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def check_output(model: keras.Model, output: Any, name: str = "model") -> list[str] | None:
    """Returns the names of a model's outputs, None if it does not show them, and checks `output` against them.

    Raises:
        ValueError: As `output_model` does; if the model does not show its outputs, only if `output` is no string.
    """
    names = output_names(model)
    if names is not None:
        _place(names, output, name)
    elif output is not None:
        check_string("output", output)
    return names


def of_output(values: Any, output: str | None, names: list[str] | None) -> Any:
    """What belongs to one output in labels, weights or predictions, given as `fit` takes them.

    Args:
        values: a dict by the names of outputs, a list or tuple in their order, or what belongs to the output itself.
        output: the name of the output; None if there is only one, and then `values` is returned as it is.
        names: the names of all outputs, or None if the model does not show them.

    Raises:
        ValueError: If a dict does not hold `output`.
    """
    if output is None:
        return values
    if isinstance(values, dict):
        if output not in values:
            held = ", ".join(map(repr, sorted(map(str, values))))
            raise ValueError(f"A dict by outputs must hold `output`, {output!r}. Received one of {held}.")
        return values[output]
    if isinstance(values, (list, tuple)) and names is not None and len(values) == len(names) > 1:
        return values[names.index(output)]
    return values


def single(values: Any, name: str = "model", advice: str = "") -> Any:
    """The only leaf of a nest of outputs.

    Raises:
        ValueError: If there are several; the message ends in `advice`.
    """
    leaves = tree.flatten(values)
    if len(leaves) != 1:
        raise ValueError(f"`{name}` must have one output. Received: {len(leaves)} outputs. {advice}".rstrip())
    return leaves[0]


def _place(names: list[str], output: str | None, name: str) -> int:
    if output is None:
        if len(names) == 1:
            return 0
        raise ValueError(
            f"`{name}` must have one output, or `output` must name one. Received: output=None, outputs "
            f"{', '.join(map(repr, names))}."
        )
    if not isinstance(output, str) or names.count(output) != 1:
        known = ", ".join(map(repr, names))
        raise ValueError(f"`output` must name one output of `{name}` ({known}). Received: output={shown(output)}.")
    return names.index(output)
