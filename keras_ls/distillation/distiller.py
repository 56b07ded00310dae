"""The `Distiller`, a model that trains a student on its teacher's logits."""

import inspect
import warnings

import keras
import numpy as np
from keras import ops

from keras_ls._checks import check_choice, check_flag, check_optional_flag, check_positive, check_proportion
from keras_ls._models.around_model import AroundModel, warn_of_own_training
from keras_ls._models.outputs import single
from keras_ls.distillation._config import uncompiled
from keras_ls.distillation._matching import (
    MATCHINGS,
    MatchingLoss,
    check_logits,
    check_models,
    check_not_shared,
    check_same_outputs,
)
from keras_ls.distillation._sources import Frozen, source_to_match
from keras_ls.distillation._targets import by_example, check_cached, class_weights, split_targets, split_weights


@keras.saving.register_keras_serializable(package="keras_ls")
class Distiller(AroundModel):
    """Trains a student on labels and on its teacher's logits.

    ``loss = (1 − β)·(compiled loss) + β·H(softmax(zᵗ/T), softmax(z/T_s)) + (the student's own penalties)``

    or, with ``matching="squared_logits"``, ``½ Σ_k (zᵗ_k − z_k)²`` in place of H. The second term is reduced like
    Keras's `sum_over_batch_size`, with sample weights and masks, in float32 or wider; regularisation and `add_loss`
    penalties of the student are added once, whatever β is. β = 0 trains exactly like the student alone; β = 1 reads no
    labels for the loss, and trains without any (without labels, or a compiled loss, that of `evaluate` is NaN).

    Binary classifiers have one output each, a sigmoid unit or its logit z. H is then the cross-entropy of two classes,
    whose probabilities are 1 − p and p: p = sigmoid(zᵗ/T) for the teacher, and sigmoid(z/T_s) for the student.

    Compile, fit, evaluate, save and load it as you would the student: `evaluate` and `predict` are the student's own
    (so `val_loss` is the compiled loss, while `loss` is the one above), and `distiller.student` is a plain model to
    ship. One training step runs student and teacher once each. Losses of single positions that
    the compiled loss ignores by their label still count in the second term: mask them, or give them weight 0.

    The teacher runs in inference mode and does not change, not even its `trainable` flags: its variables are merely
    never among `trainable_variables`. `save` saves it with the distiller, `save_weights` leaves it out.

    **Cached logits.** With ``teacher=None`` the targets are ``{"labels": y, "teacher_logits": zt}``, zt from
    `teacher_logits`; a step then costs what a step of the student costs. `evaluate` takes that or the plain labels.
    Sample weights of one number per example are passed as usual, weights of single positions as
    ``{"labels": w, "teacher_logits": w}``.

    **Augmentation.** The teacher must see what the student sees. Where images are augmented at random, do it in the
    dataset, before the distiller, and give the teacher itself: both get the same batch. (Augmenting layers inside the
    student are not part of the teacher, which would see other images.) Cached logits belong to fixed inputs: train
    without augmentation, like the paper's MNIST students, or cache the logits of a few fixed augmented copies.

    Args:
        teacher: a built model, functional, Sequential or subclassed, or None for logits from the targets.
        student: a model with the teacher's number of outputs; its input dtype and dtype policy may differ.
        temperature: T > 0, in float32, too; so must T² be with `temperature_squared`. Squared logits use only T².
        beta: β in [0, 1], the share of the teacher.
        student_temperature: T_s > 0; None means T, or 1 if β = 1, as in the paper. Not used by squared logits.
        matching: "cross_entropy" or "squared_logits".
        temperature_squared: whether the second term is multiplied by T², which keeps its gradients' size as T grows.
        teacher_from_logits: True if the teacher's output holds logits, False if it holds probabilities, None to tell
            from its last layers. The logits of a functional or Sequential model that ends in a softmax, or in
            one sigmoid unit, are taken from before it if it is a layer or the activation of a `Dense`; else log p
            stands for them (or log(p/(1 − p)) for one unit), in cross-entropy only.
        student_from_logits: the same for the student.
        **kwargs: `name`, `trainable` and `dtype` of every Keras model; without `dtype` the policy is the student's.

    Raises:
        ValueError: If numbers are out of range, the teacher is not built or shares weights that the student trains, the
            models differ in their number of outputs, an output does not show whether it holds logits, squared logits
            are requested of a model that only shows probabilities, a model has several sigmoid units (multi-label
            classifiers give no distribution over classes), or targets lack what is needed. Raised by the constructor,
            or at the first batch if it cannot be known earlier.

    Example:
        >>> import numpy as np, keras
        >>> from keras_ls.distillation import Distiller
        >>> x, y = np.array([[2.0, 0.0], [0.0, 2.0]], "float32"), np.array([0, 1])
        >>> teacher = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="identity")])
        >>> student = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="zeros")])
        >>> distiller = Distiller(teacher, student, temperature=2.0, beta=0.5)
        >>> distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> print(round(distiller.fit(x, y, verbose=0).history["loss"][0], 4))
        0.6931

    Reference:
        Müller, Kornblith and Hinton 2019, section 4; Hinton, Vinyals and Dean 2015.
    """

    def __init__(
        self,
        teacher: keras.Model | None,
        student: keras.Model,
        temperature: float = 1.0,
        beta: float = 1.0,
        student_temperature: float | None = None,
        matching: str = "cross_entropy",
        temperature_squared: bool = False,
        teacher_from_logits: bool | None = None,
        student_from_logits: bool | None = None,
        **kwargs,
    ):
        check_models(teacher, student, teacher_from_logits)
        warn_of_own_training(student, "Distiller")
        # Inputs reach the student uncast, and its loss is scaled as its own dtype policy requires.
        super().__init__(autocast=False, **{"dtype": student.dtype_policy, **kwargs})
        self.temperature = check_positive("temperature", temperature, of_float32=True)
        self.beta = check_proportion("beta", beta)
        self.student_temperature = (
            None
            if student_temperature is None
            else check_positive("student_temperature", student_temperature, of_float32=True)
        )
        self.matching = check_choice("matching", matching, MATCHINGS)
        self.temperature_squared = check_flag("temperature_squared", temperature_squared)
        self.teacher_from_logits = check_optional_flag("teacher_from_logits", teacher_from_logits)
        self.student_from_logits = check_optional_flag("student_from_logits", student_from_logits)
        own = self.student_temperature or (1.0 if self.beta == 1.0 else self.temperature)
        squared = self.temperature**2 if self.temperature_squared else 1.0
        scale = check_positive("temperature**2", squared, of_float32=True)
        self._matching_loss = MatchingLoss(self.matching, self.temperature, own, scale)
        self._frozen = Frozen(teacher)
        self.student = student
        if teacher is not None:
            self._frozen.teacher_source = source_to_match("teacher", teacher, teacher_from_logits, matching)
            self.supports_jit = all(layer.supports_jit for layer in teacher._flatten_layers())
        if student.built:
            self._meet_student()
            self.built = True

    @property
    def teacher(self) -> keras.Model | None:
        """The teacher, or None if logits come with the targets."""
        return self._frozen.teacher

    @property
    def _inner(self) -> keras.Model:
        return self.student

    @property
    def non_trainable_variables(self):
        """The student's, and every variable of the teacher: compiled steps are handed both."""
        own = super().non_trainable_variables
        known = {id(variable) for variable in own}
        teacher = [] if self.teacher is None else self.teacher.variables
        return [*own, *(variable for variable in teacher if id(variable) not in known)]

    def call(self, inputs, training=None):
        """The student's output."""
        source = self._frozen.student_source
        if source is None:  # the student is built by its first call
            outputs = self.student(inputs, training=training)
            self._meet_student()
            return outputs
        if training and self.beta > 0:
            return source.outputs(inputs, training)
        return self.student(inputs, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Returns the loss that training minimises or, in evaluation, the student's own."""
        labels, cached = split_targets(y, y_pred)
        label_weight, logit_weight = split_weights(sample_weight, y_pred)
        output = single(y_pred, name="student")
        label_weight = by_example(label_weight, output)
        if labels is None and self.beta < 1.0:
            raise ValueError(f"Targets must hold labels where `beta` is below 1. Received: beta={self.beta}.")
        if not training and (labels is None or self._compile_loss is None):
            if labels is not None:
                warnings.warn("`compile` was given no `loss`, so that in evaluation the loss is NaN.", stacklevel=2)
            return ops.mean(ops.cast(output, "float32")) * np.nan  # the student's loss, which needs both
        if not training or self.beta == 0.0:
            return super().compute_loss(x, labels, y_pred, label_weight, training)
        # Before the teacher's pass, which empties the list of a layer that both have.
        penalties = [self._aggregate_additional_loss(loss) for loss in self.losses]
        terms = [self.beta * self._matching_term(x, cached, output, logit_weight, training)]
        if self.beta < 1.0:
            if self._compile_loss is None:
                raise ValueError(f"`compile` needs a `loss` where `beta` is below 1. Received: beta={self.beta}.")
            terms.append((1.0 - self.beta) * self._compile_loss(labels, y_pred, label_weight))
        # Keras's losses are of floatx, which may be half precision; TensorFlow adds numbers of one dtype only.
        return sum(ops.cast(term, self._matching_loss.dtype) for term in terms + penalties)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Returns metrics of the student's output against the labels; without any, those that need none."""
        labels, _ = split_targets(y, y_pred)
        if labels is None:
            return self._own_results()
        return super().compute_metrics(x, labels, y_pred, split_weights(sample_weight, y_pred)[0])

    def get_metrics_result(self):
        """The value of each metric; compiled ones that have never seen labels have none."""
        if self._compile_metrics is None or self._compile_metrics.built:
            return super().get_metrics_result()
        return self._own_results()

    def _own_results(self):
        return {metric.name: metric.result() for metric in self.metrics if metric is not self._compile_metrics}

    def make_train_function(self, force=False):
        """Compiles the step; layers may have become trainable since the distiller was made."""
        if self._frozen.teacher is not None and self.student.built:
            check_not_shared(self._frozen.teacher, self.student)
        return super().make_train_function(force)

    def train_step(self, *args):
        """Runs one step; the batch is the last argument on every backend."""
        *state, data = args
        if self._frozen.class_weight is not None:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            if sample_weight is not None:
                raise ValueError("`class_weight` and sample weights cannot be given at the same time.")
            data = x, y, class_weights(self._frozen.class_weight, *split_targets(y))
        return super().train_step(*state, data)

    def fit(self, *args, **kwargs):
        """Trains like `keras.Model.fit`; `class_weight` also works with targets that hold logits."""
        return self._with_class_weight(super().fit, args, kwargs)

    def train_on_batch(self, *args, **kwargs):
        """Runs one step like `keras.Model.train_on_batch`; `class_weight` as in `fit`."""
        return self._with_class_weight(super().train_on_batch, args, kwargs)

    def save_weights(self, *args, **kwargs):
        """Saves the weights of the student and of the optimizer; the teacher's never change."""
        with self._frozen.hidden():
            super().save_weights(*args, **kwargs)

    def load_weights(self, *args, **kwargs):
        """Loads what `save_weights` saved; the teacher stays as it is."""
        with self._frozen.hidden():
            super().load_weights(*args, **kwargs)

    def get_config(self):
        """Returns every constructor argument, with the models in full.

        Raises:
            ValueError: If the models have layers in common, which would be loaded as two layers, one without weights.
        """
        if self.teacher is not None and {*map(id, self.teacher.variables)} & {*map(id, self.student.variables)}:
            raise ValueError(
                "A distiller whose `teacher` and `student` have layers in common cannot be saved: save `student` alone."
            )
        return {
            **super().get_config(),
            "teacher": uncompiled(keras.saving.serialize_keras_object(self.teacher)),
            "student": uncompiled(keras.saving.serialize_keras_object(self.student)),
            "temperature": self.temperature,
            "beta": self.beta,
            "student_temperature": self.student_temperature,
            "matching": self.matching,
            "temperature_squared": self.temperature_squared,
            "teacher_from_logits": self.teacher_from_logits,
            "student_from_logits": self.student_from_logits,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuilds both models and the distiller around them."""
        models = uncompiled({role: config[role] for role in ("teacher", "student")})
        models = keras.saving.deserialize_keras_object(models, custom_objects=custom_objects)
        return cls(**{**config, **models})

    def _meet_student(self) -> None:
        """Finds the logits of the built student, and checks that they fit the teacher's."""
        frozen = self._frozen
        source = source_to_match("student", self.student, self.student_from_logits, self.matching)
        if frozen.teacher is not None and frozen.teacher_source is not None:
            check_same_outputs(frozen.teacher_source.num_outputs, source.num_outputs)
            check_not_shared(frozen.teacher, self.student)
        frozen.student_source = source

    def _matching_term(self, x, cached, y_pred, sample_weight, training):
        """Returns the second term, not yet multiplied by β."""
        teacher, student = self._frozen.teacher_source, self._frozen.student_source
        if student is None:
            raise ValueError("The distiller must be called, built or fitted before its loss can be computed.")
        check_cached(cached, is_needed=teacher is None)
        check_logits(y_pred, y_pred)
        logits = student.logits(y_pred, x, training)
        teacher_logits = ops.convert_to_tensor(cached) if teacher is None else teacher.frozen_logits(x)
        return self._matching_loss(teacher_logits, logits, sample_weight)

    def _with_class_weight(self, method, args, kwargs):
        call = inspect.signature(getattr(keras.Model, method.__name__)).bind(self, *args, **kwargs)
        class_weight = None
        # Keras weighs plain labels itself.
        if self.teacher is None and (self.beta > 0 or isinstance(call.arguments.get("y"), dict)):
            class_weight = call.arguments.pop("class_weight", None)
            if class_weight is not None and call.arguments.get("sample_weight") is not None:
                raise ValueError("`class_weight` and `sample_weight` cannot be given at the same time.")
        class_weight = None if class_weight is None else dict(class_weight)  # which its owner may change
        if class_weight != self._frozen.class_weight:
            self._frozen.class_weight, self.train_function = class_weight, None  # the weights are compiled in
        return method(*call.args[1:], **call.kwargs)
