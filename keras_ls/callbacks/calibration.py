"""The `Calibration` callback: calibration on held-out data, epoch by epoch."""

import math
from typing import Any

import keras
import numpy as np

from keras_ls._checks import check_count, check_flag, check_ignore_class, check_optional_flag, check_string
from keras_ls._models.data import LabelledData, Predictor
from keras_ls._models.logits import gives_logits
from keras_ls._rows import LabelledRows
from keras_ls.calibration.reliability import curve_of
from keras_ls.calibration.temperature import fitted_temperature
from keras_ls.callbacks._base import Measurement, MeasuringCallback
from keras_ls.callbacks._passes import Outputs, Source
from keras_ls.metrics.risk_coverage import area_of_rows

_SUM_TOLERANCE = 0.05  # of probabilities in half precision


class Calibration(MeasuringCallback):
    """Measures calibration on held-out data while a model trains, and logs it.

    After every `freq`-th epoch the model predicts `x` in inference mode, and these enter the epoch's `logs`, each name
    with `prefix` in front:

    - `ece`: expected calibration error, top label, `num_bins` bins (`ReliabilityCurve.ece`), in [0, 1];
    - `nll`: mean −log p_y in nats, p clipped to [ε, 1 − ε] (Keras's epsilon) unless `from_logits`;
    - `temperature`: the T that `TemperatureScaling.fit` finds on the same data;
    - `ece_scaled`: the ECE of softmax(z/T), z being the logits, or log p (the log-odds of one sigmoid unit);
    - `aurc`: how well confidence ranks errors, the area that `AreaUnderRiskCoverage` measures.

    `History` records them, and callbacks that stand after this one can watch them with `mode="min"`. The epochs between
    two measurements repeat the last values, except where the model has a metric of the same name, which Keras has just
    measured; before the first one there are none, as for Keras's `validation_freq`, except in a training that goes on
    (`initial_epoch` above 0), which is measured after its first epoch, too. Keras's callbacks count epochs, not
    measurements: `EarlyStopping` needs a `patience` of at least `freq`, and `CSVLogger` takes its columns from the
    first epoch, where a `freq` above 1 has none of these. A model that gives NaN or infinities has NaN here. Random
    generators are left as they were: training is the same with the callback and without it. An `EmbeddingProjector` or
    `PenultimateProjection` that is given the same array `x` shares the prediction pass, unless the model masks its
    output.

    Args:
        x: inputs, an array or a list or dict of arrays, as `model.predict` takes them; or a dataset of (inputs,
            labels) or (inputs, labels, weights): `tf.data.Dataset`, `keras.utils.PyDataset` or
            `torch.utils.data.DataLoader`. A dataset is read once per measurement, in whatever order it comes, and once
            when training begins, for its labels.
        y: class ids (N, ...) or (N, ..., 1), integers or floats that hold integers, or one row per prediction
            (N, ..., K) whose largest entry is the class. For a binary classifier with one sigmoid unit, 0 and 1. None
            if `x` is a dataset.
        num_bins: number of bins, at least 1.
        from_logits: whether the model gives logits instead of probabilities; None to read it off the model's layers.
        log_dir: folder for TensorBoard, or None. It gets the values above as scalars and, as the image
            `{prefix}reliability_diagram`, the reliability diagram before and after temperature scaling, which needs
            matplotlib.
        freq: number of epochs from one measurement to the next, at least 1.
        temperature_scaling: whether to measure `temperature` and `ece_scaled` too.
        prefix: put before each name; several of these callbacks in one training need different ones.
        sample_weight: None, or weights ≥ 0, (N, ...) or its leading dimensions: a weight of 2 counts the example twice
            (in `aurc` it is twice the coverage).
            What the model masks (`Embedding(mask_zero=True)`) never counts, so that `ece` and `nll` are those of the
            metrics in `evaluate`.
        ignore_class: a label, in [0, K) or not, whose positions do not count, or None.
        output: the name of the output to measure, if the model has several; `y` and `sample_weight`, or the labels and
            weights of the dataset, may then be dicts by outputs, as `fit` takes them.

    Raises:
        ValueError: Here if data are empty, `x` and `y` are of different length, `log_dir` cannot be written, or
            `num_bins` or `freq` is below 1; when training begins if labels that count are outside [0, K), shapes cannot
            match, predictions are outside [0, 1] without `from_logits`, or do not sum to 1 where the layers tell that
            they are logits, the layers tell that they are probabilities with `from_logits`, the model is multi-label
            (several sigmoid units), has no output of that name, or does not tell what it gives and `from_logits` is
            None.

    Example:
        >>> import numpy as np, keras, keras_ls
        >>> x, y = np.array([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0]]), np.array([0, 1, 1])
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="identity")])
        >>> model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> callback = keras_ls.Calibration(x, y, from_logits=True)
        >>> history = model.fit(x, y, callbacks=[callback], verbose=0).history
        >>> print({name: round(values[0], 3) for name, values in history.items() if name.startswith("val_")})
        {'val_ece': 0.315, 'val_nll': 1.351, 'val_temperature': 5.771, 'val_ece_scaled': 0.0, 'val_aurc': 0.333}

    Reference:
        Müller, Kornblith and Hinton 2019, section 3.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        num_bins: int = 15,
        from_logits: bool | None = False,
        log_dir: Any = None,
        freq: int = 1,
        temperature_scaling: bool = True,
        prefix: str = "val_",
        sample_weight: Any = None,
        ignore_class: int | None = None,
        output: str | None = None,
    ):
        self.num_bins = check_count("num_bins", num_bins)
        self.from_logits = check_optional_flag("from_logits", from_logits)
        self.temperature_scaling = check_flag("temperature_scaling", temperature_scaling)
        self.prefix = check_string("prefix", prefix)
        self._data = LabelledData(x, y, sample_weight, check_ignore_class(ignore_class), output)
        self._source = None if y is None else Source(x, output)
        self._outputs: Outputs | None = None
        self._dtype: Any = None
        self._predictor: Predictor | None = None
        self._gives_logits = False
        super().__init__(freq, log_dir)

    def _prepare(self) -> None:
        self._predictor = Predictor(self.model, self._data.output)
        first = self._data.check(self._predictor)  # builds the model, too
        self._dtype = first.rows.dtype
        self._outputs = None
        if self._source is not None and not self._data.is_masked:  # a shared pass knows no mask of its outputs
            self._outputs = Outputs(self.model, self._source, self._data.x, self._is_due)
        shown = gives_logits(self.model, self._data.output)
        if self.from_logits is None and shown is None:
            raise ValueError(
                "`from_logits` must be True or False for a model whose layers do not tell what it gives. "
                f"Received: from_logits=None and {self.model.name!r}."
            )
        if self.from_logits and shown is False:
            raise ValueError(
                "`from_logits` must be False for a model whose last layer gives probabilities. "
                f"Received: from_logits=True and {self.model.name!r}."
            )
        self._gives_logits = bool(shown if self.from_logits is None else self.from_logits)
        if not self._gives_logits:
            for _ in first.probabilities():  # raises for what are none
                pass
            sums = first.rows[first.weight > 0].sum(-1, dtype="float64")
            # Small logits would pass for probabilities until training has made them larger.
            if shown and (first.rows.shape[-1] == 1 or (np.abs(sums - 1.0) > _SUM_TOLERANCE).any()):
                raise ValueError(
                    "`from_logits` must be True for a model whose last layer gives logits. "
                    f"Received: from_logits=False and {self.model.name!r}."
                )

    def on_epoch_begin(self, epoch, logs=None):
        """Lets go of the last epoch's predictions."""
        if self._outputs is not None:
            self._outputs.forget()

    def on_train_end(self, logs=None):
        """Lets go of the compiled prediction, and waits until the event file is written."""
        self._predictor = self._outputs = None
        super().on_train_end(logs)

    def _predict(self, epoch: int) -> LabelledRows:
        assert self._predictor is not None  # _prepare came first
        outputs = None if self._outputs is None else self._outputs.shared(epoch)
        if outputs is None:
            return self._data.predict(self._predictor, self._gives_logits)
        return self._data.label(outputs.astype(self._dtype, copy=False), self._gives_logits)

    def _measure(self, epoch: int) -> Measurement:
        rows = self._predict(epoch)
        curve = curve_of(rows, self.num_bins)
        values = {"ece": curve.ece(), "nll": rows.negative_log_likelihood(keras.config.epsilon())}
        curves = {"as trained": curve}
        if self.temperature_scaling:
            values["temperature"] = values["ece_scaled"] = math.nan
            # Otherwise no temperature makes the labels possible.
            if np.isfinite([values["ece"], values["nll"]]).all():
                temperature = float(fitted_temperature(rows))
                scaled = curve_of(rows, self.num_bins, temperature)
                values["temperature"], values["ece_scaled"] = temperature, scaled.ece()
                curves[f"T = {temperature:.2f}"] = scaled

        values["aurc"] = area_of_rows(rows) if np.isfinite(values["ece"]) else math.nan

        def diagram():
            from keras_ls.plots import reliability_diagram

            return reliability_diagram(curves).figure

        named = {f"{self.prefix}{name}": value for name, value in values.items()}
        return Measurement(named, {f"{self.prefix}reliability_diagram": diagram})
