"""What a `FusedOutput` knows of its model, and what runs now."""

import contextlib
from collections.abc import Iterator

from keras_ls._models.output_layer import OutputLayer


class Found:
    """The output layer once it is known, in a place where Keras does not track it a second time; and what runs now."""

    output_layer: OutputLayer | None = None
    trains = False

    @contextlib.contextmanager
    def training(self, trains: bool) -> Iterator[None]:
        """A context in which metrics are those of training, or of evaluation."""
        before, self.trains = self.trains, trains
        try:
            yield
        finally:
            self.trains = before
