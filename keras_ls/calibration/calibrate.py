"""A model that gives calibrated probabilities, by a temperature fitted on held-out data."""

from typing import Any

import keras

from keras_ls._checks import check_count, check_ignore_class, check_optional_flag
from keras_ls._models.data import LabelledData, predicted_logits
from keras_ls._models.devices import on_devices_of
from keras_ls._models.inputs import check_no_preprocessor
from keras_ls._models.logits import free_name
from keras_ls.calibration.temperature import TemperatureScaling, fitted_temperature


def calibrate(
    model: keras.Model,
    x: Any,
    y: Any = None,
    batch_size: int = 32,
    sample_weight: Any = None,
    ignore_class: int | None = None,
    from_logits: bool | None = None,
    output: str | None = None,
) -> keras.Model:
    """Returns a model that gives calibrated probabilities: `model` with temperature scaling fitted on held-out data.

    Whether `model` gives logits or probabilities is read off its last layers: a linear `Dense` (or convolution) gives
    logits; a softmax, or the sigmoid of one unit, as a layer or as the activation of the last layer, is taken off, and
    the temperature is fitted on what comes before it. Only if the logits cannot be shown (a softmax inside another
    layer than `Dense`, or a quantized one) is the temperature fitted on log p, in which all probabilities that
    underflowed are the same. `from_logits` decides for models that do not tell, such as subclassed ones.

    The new model shares the layers of `model` and leaves them, their weights and their `trainable` flags as they are.
    If `model` is trained further, calibrate it again.

    Args:
        model: a built functional or `Sequential` model with an output (..., K), or (..., 1) for a binary classifier
            with one sigmoid unit, whose logit the temperature then divides. With `from_logits` any model.
        x: inputs that the model was not trained on, as `model.predict` takes them (an array, or a list or dict of
            arrays), or a dataset of (inputs, labels) or (inputs, labels, weights): `tf.data.Dataset`,
            `keras.utils.PyDataset` or `torch.utils.data.DataLoader`. Predictions and labels come from one pass over a
            dataset, so that labels stay with their inputs if it shuffles; before it, the first batch is read once.
        y: class ids (N, ...) or (N, ..., 1), or one row per prediction (N, ..., K). None if `x` is a dataset.
        batch_size: examples per batch, if `x` is not a dataset.
        sample_weight: None, or weights ≥ 0, (N, ...) or its leading dimensions. Time steps that the model masks
            (`Embedding(mask_zero=True)`) never count.
        ignore_class: a label, in [0, K) or not, whose positions do not count, or None.
        from_logits: whether the output holds logits (True) or probabilities (False); None to read it off the layers.
        output: the name of the output to calibrate, if `model` has several; `y` and `sample_weight`, or the labels and
            weights of the dataset, may then be dicts by outputs, as `fit` takes them.

    Returns:
        A functional model with the inputs of `model` that gives probabilities (..., K), float32 or wider, or (..., 1)
        for one sigmoid unit. It can be saved; `import keras_ls` before loading it. If `model` does not show its inputs,
        as subclassed models do not, the new model's are integers where those in `x` are, and floats where they are.
        That of a `Sequential` without a `keras.Input` takes inputs of other sizes, as it does, but once saved and
        loaded only those of the batch that built it: begin the model with `keras.Input((None,))`, say.

    Raises:
        ValueError: If it cannot be told whether the model gives logits or probabilities and `from_logits` is None, the
            model is multi-label (several sigmoid units), has several outputs and none is named, or preprocesses its
            inputs in `predict` (a KerasHub task with a preprocessor); and for empty data, lengths that do not match or
            labels that count outside [0, K).

    Example:
        >>> import numpy as np, keras, keras_ls
        >>> head = keras.layers.Dense(2, activation="softmax", kernel_initializer="identity")
        >>> model = keras.Sequential([keras.Input((2,)), head])
        >>> calibrated = keras_ls.calibrate(model, np.array([[6.0, 0.0], [6.0, 0.0], [6.0, 0.0]]), np.array([0, 0, 1]))
        >>> print(calibrated.predict(np.array([[6.0, 0.0]]), verbose=0).round(3))
        [[0.667 0.333]]

    Reference:
        Guo et al. 2017, section 4.2.
    """
    batch_size = check_count("batch_size", batch_size)
    check_optional_flag("from_logits", from_logits)
    check_no_preprocessor(model)
    data = LabelledData(x, y, sample_weight, check_ignore_class(ignore_class), output)
    source, rows = predicted_logits(model, data, from_logits, batch_size)
    temperature = fitted_temperature(rows, stacklevel=3)
    name = model.name if output is None else f"{model.name}_{output.replace('/', '_')}"
    with on_devices_of(model):
        # PyTorch takes no dot in the name of a layer with weights; those of MobileNets have one.
        scaling = TemperatureScaling(name=free_name(f"{name}_temperature".replace(".", "_"), source.outputs))
        scaling.temperature.assign(temperature)
        calibrated = keras.Model(source.input, scaling(source.output), name=f"{name}_calibrated")
    if source.input_spec is None:
        calibrated.input_spec = None
    return calibrated
