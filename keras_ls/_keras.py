"""Says in one line what to install where Keras cannot be imported; everything else imports Keras itself."""

try:
    import keras  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"keras_ls needs a backend that Keras can import ({error}): pip install tensorflow; or jax, or torch, "
        "with the environment variable KERAS_BACKEND=jax or KERAS_BACKEND=torch."
    ) from None
