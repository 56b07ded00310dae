"""Templates of classes, the plane through three of them, and examples in it."""

import dataclasses
import warnings

import keras
import numpy as np
import pytest
from classifiers import MODELS, images, sequential
from keras import layers

import keras_ls
from keras_ls.projection import ClassPlane, Projection, class_templates

penultimate = keras_ls.penultimate_activations


class TestClassTemplates:
    def test_are_the_kernel_columns_with_the_bias(self):
        model = sequential(layers.Dense(4, bias_initializer="normal"))
        kernel, bias = model.layers[-1].get_weights()
        expected = np.concatenate([kernel, bias[None]]).T
        np.testing.assert_array_equal(class_templates(model), expected)
        np.testing.assert_array_equal(class_templates(model.layers[-1]), expected)
        timed = layers.TimeDistributed(model.layers[-1])
        np.testing.assert_array_equal(class_templates(timed), expected)

    def test_have_a_zero_where_there_is_no_bias(self):
        model = sequential(layers.Dense(4, use_bias=False))
        assert (class_templates(model)[:, -1] == 0).all()
        assert class_templates(model).shape == (4, 8)

    def test_of_a_subclassed_model_that_hides_its_input_shape_ask_for_the_layer(self, rng):
        class Hidden(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = [layers.Dense(3), layers.Dense(4)]

            def call(self, inputs):
                return self.dense[1](self.dense[0](inputs["x"]))

        model = Hidden()
        model({"x": np.zeros((2, 5), "float32")})
        with pytest.raises(ValueError, match="give the layer"):
            class_templates(model)
        assert class_templates(model.dense[1]).shape == (4, 4)
        assert penultimate(model, {"x": np.zeros((2, 5), "float32")}).shape == (2, 3)

    def test_of_a_layer_that_is_not_built_are_refused(self):
        with pytest.raises(ValueError, match="not built"):
            class_templates(layers.Dense(3))
        with pytest.raises(ValueError, match="Conv2D"):
            class_templates(layers.Conv2D(3, 1))


class TestClassPlane:
    @pytest.mark.parametrize("width", [2, 3, 50, 2049])
    @pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
    def test_holds_the_templates_and_keeps_distances(self, rng, width, scale):
        templates = (scale * rng.standard_normal((3, width)) + scale).astype("float32")
        plane = ClassPlane(templates)
        assert plane.basis.shape == (2, width)
        np.testing.assert_allclose(plane.basis @ plane.basis.T, np.eye(2), atol=1e-12)
        np.testing.assert_allclose(plane.origin, templates.astype("float64").mean(0), rtol=1e-12)
        lifted = plane.origin + plane.templates_2d @ plane.basis
        np.testing.assert_allclose(lifted, templates, atol=1e-5 * np.ptp(templates))
        between = np.linalg.norm(templates[:, None].astype("float64") - templates, axis=-1)
        flat = np.linalg.norm(plane.templates_2d[:, None] - plane.templates_2d, axis=-1)
        np.testing.assert_allclose(flat, between, rtol=1e-5)
        inside = plane.origin + rng.standard_normal((5, 2)) @ plane.basis
        points = plane.project(inside)
        np.testing.assert_allclose(
            np.linalg.norm(points[1:] - points[0], axis=1), np.linalg.norm(inside[1:] - inside[0], axis=1), rtol=1e-6
        )

    def test_projects_as_the_definition_says_with_and_without_the_one(self, rng):
        templates, x = rng.standard_normal((3, 8)), rng.standard_normal((20, 7))
        plane = ClassPlane(templates)
        extended = np.concatenate([x, np.ones((20, 1))], axis=1)
        expected = (extended - templates.mean(0)) @ plane.basis.T
        np.testing.assert_allclose(plane.project(x), expected, rtol=1e-12)
        np.testing.assert_allclose(plane.project(extended), expected, rtol=1e-12)

    def test_turns_only_by_rotation_or_reflection_with_the_order(self, rng):
        templates, x = rng.standard_normal((3, 6)), rng.standard_normal((9, 5))
        one, other = ClassPlane(templates), ClassPlane(templates[[2, 0, 1]])
        turn = one.basis @ other.basis.T
        np.testing.assert_allclose(turn @ turn.T, np.eye(2), atol=1e-12)
        np.testing.assert_allclose(one.project(x), other.project(x) @ turn.T, atol=1e-12)

    @pytest.mark.parametrize(
        "templates",
        [
            [[1.0, 2, 3], [1, 2, 3], [4, 5, 6]],
            [[0.0, 0, 0], [1, 1, 1], [3, 3, 3]],
            [[1.0, 1, 1]] * 3,
            np.zeros((3, 4)),
        ],
    )
    def test_refuses_templates_on_a_line(self, templates):
        with pytest.raises(ValueError, match="span a plane"):
            ClassPlane(templates)
        with pytest.raises(ValueError, match="span a plane"):
            ClassPlane(np.float32(templates) * np.float32(0.1) + np.float32(0.7))

    @pytest.mark.parametrize("shape", [(2, 5), (4, 5), (3,), (3, 1)])
    def test_refuses_other_shapes(self, shape, rng):
        with pytest.raises(ValueError, match="templates"):
            ClassPlane(rng.standard_normal(shape))
        with pytest.raises(ValueError, match="activations"):
            ClassPlane(rng.standard_normal((3, 5))).project(rng.standard_normal((4, 6)))
        with pytest.raises(ValueError, match="finite"):
            ClassPlane(np.full((3, 5), np.nan))


class TestProjectClasses:
    def make(self, rng, **options):
        model, x = MODELS["softmax inside"]()[0], images(rng, 60)
        y = np.arange(60) % 4
        arguments = {"classes": (3, 0, 2), "examples_per_class": 5, **options}
        return model, x, y, keras_ls.project_classes(model, x, y, **arguments)

    def test_projects_what_the_pieces_give(self, rng):
        model, x, y, projection = self.make(rng, examples_per_class=15)
        plane = ClassPlane(class_templates(model)[[3, 0, 2]])
        chosen = np.isin(y, (3, 0, 2))
        np.testing.assert_allclose(
            projection.points, plane.project(penultimate(model, x)[chosen]), rtol=1e-4, atol=1e-6
        )
        np.testing.assert_array_equal(projection.labels, y[chosen])
        np.testing.assert_array_equal(projection.templates_2d, plane.templates_2d)
        assert projection.class_names == ("3", "0", "2")
        assert projection.classes == (3, 0, 2)

    def test_rows_of_labels_mark_one_class(self, rng):
        model, x, y, projection = self.make(rng, examples_per_class=15)
        rows = np.eye(model.output_shape[-1])[y]
        again = keras_ls.project_classes(model, x, rows, (3, 0, 2), 15)
        np.testing.assert_array_equal(again.labels, projection.labels)
        for wrong in (np.zeros_like(rows[0]), np.ones_like(rows[0]), np.full_like(rows[0], np.nan)):
            with pytest.raises(ValueError, match="mark one class"):
                keras_ls.project_classes(model, x, np.concatenate([rows[:-1], wrong[None]]), (3, 0, 2), 15)

    def test_a_projection_is_of_three_classes(self):
        with pytest.raises(ValueError, match="`classes`, `class_names` and `templates_2d` must be of three classes"):
            keras_ls.Projection(np.zeros((2, 2)), np.array([0, 1]), np.eye(3)[:, :2], ("a", "b", "c"))

    def test_draws_as_many_examples_as_asked_by_the_seed(self, rng):
        model, x, y, projection = self.make(rng)
        assert projection.points.shape == (15, 2)
        assert {k: (projection.labels == k).sum() for k in (0, 2, 3)} == {0: 5, 2: 5, 3: 5}
        again = keras_ls.project_classes(model, x, y, (3, 0, 2), 5)
        np.testing.assert_array_equal(again.points, projection.points)
        other = keras_ls.project_classes(model, x, y, (3, 0, 2), 5, seed=1)
        assert not np.array_equal(other.points, projection.points)

    def test_draws_the_same_examples_for_any_order_of_the_classes(self, rng):
        model, x, y, one = self.make(rng)
        other = keras_ls.project_classes(model, x, y, (0, 2, 3), 5)
        np.testing.assert_array_equal(one.labels, other.labels)

        def distances(points):
            return np.linalg.norm(points[:, None] - points, axis=-1)

        np.testing.assert_allclose(distances(one.points), distances(other.points), atol=1e-6)

    def test_takes_labels_of_every_form(self, rng):
        model, x, y, projection = self.make(rng)
        for form in (y.astype("float32"), y[:, None], np.eye(4)[y], list(y)):
            found = keras_ls.project_classes(model, x, form, (3, 0, 2), 5)
            np.testing.assert_allclose(found.points, projection.points, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(found.labels, projection.labels)

    def test_takes_tensors(self, rng):
        model, x, y, projection = self.make(rng)
        found = keras_ls.project_classes(model, *map(keras.ops.convert_to_tensor, (x, y)), (3, 0, 2), 5)
        np.testing.assert_array_equal(found.points, projection.points)

    def test_says_where_there_are_fewer_examples(self, rng):
        with pytest.warns(UserWarning, match=r"Class 2 has 15 examples"):
            projection = self.make(rng, examples_per_class=16)[-1]
        assert len(projection.points) == 45

    def test_says_nothing_of_a_number_that_nobody_chose(self, rng):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            self.make(rng, examples_per_class=100)

    def test_of_sequences_leaves_out_what_is_masked(self, rng):
        model, by_hand, make = MODELS["time-distributed"]()
        x = make(rng)
        y = np.tile(np.arange(5) % 3, (len(x), 1))
        projection = keras_ls.project_classes(model, x, y, (0, 1, 2))
        kept = x != 0
        plane = ClassPlane(class_templates(model)[:3])
        np.testing.assert_allclose(projection.points, plane.project(by_hand(x)[kept]), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(projection.labels, y[kept])

    @pytest.mark.parametrize(
        "classes",
        [
            *[(0, 1), (0, 1, 1), (0, 1, 2, 3), (0, 1, -1), ("a", "b", "c"), (0.5, 1, 2), 3, "abc", b"abc", None],
            *[(0, [1, 2], 3), (True, False, 2**70), (0, 1, np.nan), np.arange(1000), np.eye(3), {0: 1}],
        ],
        ids=repr,
    )
    def test_needs_three_different_classes(self, rng, classes):
        with pytest.raises(ValueError, match="three different") as raised:
            self.make(rng, classes=classes)
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 300

    @pytest.mark.parametrize("form", [np.array, keras.ops.convert_to_tensor, list, np.uint8])
    def test_takes_classes_of_every_form(self, rng, form):
        assert self.make(rng, classes=form([3, 0, 2]))[-1].classes == (3, 0, 2)

    def test_refuses_what_does_not_fit(self, rng):
        model, x, y, _ = self.make(rng)
        with pytest.raises(ValueError, match=r"\[0, 4\)"):
            keras_ls.project_classes(model, x, np.where(y == 0, 7, y), (7, 1, 2))
        with pytest.raises(ValueError, match="none of class 5"):
            keras_ls.project_classes(model, x, y, (5, 1, 2))
        with pytest.raises(ValueError, match=r"`y` must hold one class id per example"):
            keras_ls.project_classes(model, x, y[:-1], (0, 1, 2))
        with pytest.raises(ValueError, match="for each input of the model's last Dense"):
            keras_ls.project_classes(model, x, np.stack([y, y, y], 1), (0, 1, 2))
        with pytest.raises(ValueError, match="examples_per_class"):
            keras_ls.project_classes(model, x, y, (0, 1, 2), examples_per_class=0)
        for x_given, y_given in (("x", y), (range(60), y), (x, "y"), (x, None), (x, 3), (x, [[1], [2, 3]])):
            with pytest.raises(ValueError, match=r"^`[xy]` must be|^`y` must hold"):
                keras_ls.project_classes(model, x_given, y_given, (0, 1, 2))

    def test_is_shown_on_one_short_line(self, rng):
        projection = self.make(rng)[-1]
        assert repr(projection) == str(projection) == "Projection(15 points, classes 3, 0, 2)"
        names = ("cat\nand mouse", "dog" * 100, "fox")
        shown = repr(dataclasses.replace(projection, class_names=names))
        assert "\n" not in shown
        assert len(shown) < 130
        assert repr(ClassPlane(np.eye(3))) == "ClassPlane(3 templates of width 3)"

    def test_a_projection_made_by_hand_finds_its_classes(self):
        projection = Projection(np.zeros((4, 2)), np.array([7, 3, 3, 5]), np.eye(3)[:, :2], ("a", "b", "c"))
        assert projection.classes == (3, 5, 7)
