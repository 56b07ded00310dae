"""Errors that a demo reports in one line, without a traceback."""


class DamagedFile(ValueError):
    """A file of an earlier run cannot be used: it is damaged, or of another run. The message names it."""


class Diverged(RuntimeError):
    """Training has left the finite numbers."""


class MissingExtra(ImportError):
    """An optional package that a demo needs is not installed."""
