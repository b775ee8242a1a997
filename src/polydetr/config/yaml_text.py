"""YAML as data alone, within bounds: whatever a stranger's file holds, it is a value or a named fault within a second.

Aliases may be used; what they stand for counts as if it were written out. A key that stands twice is a fault, for half
of what the user wrote would be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_MOST_NODES = 100_000
_MOST_LEVELS = 40
_MERGE = "tag:yaml.org,2002:merge"
_KINDS = {"timestamp": "a date; if it is text, put it into quotes", "int": "a number, it has too many digits"}
_PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class YamlFault(ValueError):
    """What is wrong with a YAML text; key: where, as ``training.lr``, "" for the text as a whole."""

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.message, self.key = message, key


def read_yaml(text: str, *, as_text: bool = False) -> Any:
    """The value that the text stands for, in Python's plain types; as_text: every single value as it is written, yes
    and 007 too.

    Raises:
        YamlFault: no YAML, a key that stands twice, a date that is none, a number of thousands of digits, and more
        levels or values than any configuration has.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _Values(loader, as_text).of(node, "", 0)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise YamlFault(f"not valid YAML: {line}{error.problem or error}") from None
    except yaml.YAMLError as error:
        raise YamlFault(f"not valid YAML: {error}") from None


class _Loader(yaml.SafeLoader):
    """Stops at brackets within brackets before Python does."""

    level = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        self.level += 1
        if self.level > _MOST_LEVELS:
            raise YamlFault(f"lists or sections within one another, more than {_MOST_LEVELS} deep")
        node = super().compose_node(parent, index)
        self.level -= 1
        return node


class _Values:
    """Python's values of a tree of nodes, of which an alias may make the same one stand in many places."""

    def __init__(self, loader: _Loader, as_text: bool) -> None:
        self.loader, self.as_text, self.room = loader, as_text, _MOST_NODES

    def of(self, node: Node, key: str, level: int) -> Any:
        self.room -= 1
        if self.room < 0:
            raise YamlFault(f"more than {_MOST_NODES:,} values, aliases written out", key=key)
        if level > _MOST_LEVELS:  # an alias inside of what it stands for
            raise YamlFault(f"lists or sections within one another, more than {_MOST_LEVELS} deep", key=key)
        if isinstance(node, ScalarNode):
            return self._scalar(node, key)
        if node.tag not in _PLAIN:
            raise YamlFault(f"the tag {node.tag!r} is not read", key=key)
        if isinstance(node, SequenceNode):
            return [self.of(item, key, level + 1) for item in node.value]
        assert isinstance(node, MappingNode)
        return self._mapping(node, key, level)

    def _scalar(self, node: ScalarNode, key: str) -> Any:
        if self.as_text:
            return node.value
        try:
            return self.loader.construct_object(node)
        except (ValueError, OverflowError, yaml.YAMLError):
            kind = node.tag.rpartition(":")[2]
            raise YamlFault(f"{node.value[:40]!r} cannot be read as {_KINDS.get(kind, kind)}", key=key) from None

    def _mapping(self, node: MappingNode, key: str, level: int) -> dict[Any, Any]:
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged = self._merged(value_node, key, level) | merged
                continue
            if not isinstance(key_node, ScalarNode):
                raise YamlFault("a list or a section cannot be a key", key=key)
            name = self._scalar(key_node, key)
            place = f"{key}.{str(name)[:60]}" if key else str(name)[:60]
            if name in own:
                raise YamlFault("stands twice; write it once", key=place)
            own[name] = self.of(value_node, place, level + 1)
        return merged | own

    def _merged(self, node: Node, key: str, level: int) -> dict[Any, Any]:
        """What ``<<`` adds: a section, or several, of which the first prevails."""
        value = self.of(node, key, level + 1)
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, Mapping) for part in parts):
            raise YamlFault("<< expects a section", key=key)
        merged: dict[Any, Any] = {}
        for part in parts:
            merged = part | merged
        return merged
