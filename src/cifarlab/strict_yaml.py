"""YAML that people write by hand: plain values only, and nothing that stands twice."""

from __future__ import annotations

from typing import Any

import yaml

from cifarlab.errors import ConfigError

# besides its own errors: text not UTF-8, dates that are none, numbers of thousands of digits, thousands of brackets,
# and what PyYAML lets through of a value that does not fit its tag, such as !!timestamp x or !!bool x
_UNREADABLE = (yaml.YAMLError, ValueError, RecursionError, AttributeError, KeyError, IndexError, TypeError)


class _StrictLoader(yaml.SafeLoader):
    """Refuses a field that stands twice, of which YAML's reader would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; what ``<<`` merges into it may stand in it again."""
        written = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in written:
            if written.count(key) > 1:
                raise ConfigError(f"the field {key} stands twice (line {node.start_mark.line + 1} and after)")
        return super().construct_mapping(node, deep=deep)


def read_yaml(text: str | bytes) -> Any:
    """Return the values a text holds; bytes are UTF-8.

    Raises:
        ConfigError: If it is not YAML, or a field stands twice in one place.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 stricter than safe_load
    except _UNREADABLE as error:
        raise ConfigError(f"not YAML: {' '.join(str(error).split())}") from error
