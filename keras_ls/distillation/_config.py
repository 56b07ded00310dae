"""The configs of the models that a distiller's own config holds."""

from typing import Any


def uncompiled(config: Any) -> Any:
    """A config without how its models were compiled, which the distiller never uses and which can prevent loading."""
    if isinstance(config, dict):
        return {name: uncompiled(part) for name, part in config.items() if name != "compile_config"}
    return [uncompiled(part) for part in config] if isinstance(config, (list, tuple)) else config
