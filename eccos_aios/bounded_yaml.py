"""Loads YAML with bounds, so that a malicious file cannot take much time or memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 512 * 1024  # of a file: about 3,000 cores
MAX_VALUES = 50_000  # with keys, and with aliases expanded; PyYAML takes 60 µs each
MAX_DEPTH = 64
LONGEST_VALUE = 65_536  # characters
LONGEST_NUMBER = 64  # characters; Python refuses to write integers of more than 4,300 digits

SHOWN_LENGTH = 400  # characters of PyYAML's message


class TooMuchYamlError(ValueError):
    """A file has more content than any config."""

    def __init__(self, fault: str, mark: Any) -> None:
        super().__init__(f"line {mark.line + 1}: {fault}")


def load_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is not YAML, or larger or deeper than any config, aliases expanded; says where.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES // 1024} KiB, which no config or manifest is")
    try:
        return yaml.load(data.decode("utf-8-sig"), _BoundedLoader)
    except TooMuchYamlError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"is not YAML: {' '.join(str(error).split())[:SHOWN_LENGTH]}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        # PyYAML raises these on a value like ``!!int ""``
        raise ValueError("is not YAML: a value is not what its tag says") from error


class _BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which counts depth and values while it composes."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._values = 0
        self._weights: dict[yaml.Node, int] = {}  # values in a finished node that has an anchor

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call,unused-ignore]
        before = self._values
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise TooMuchYamlError(f"is nested more than {MAX_DEPTH} deep", event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if node not in self._weights:
                raise TooMuchYamlError(
                    f"alias *{event.anchor} is within the value that it refers to", event.start_mark
                )
            self._values += self._weights[node]
        else:
            self._values += 1
        if self._values > MAX_VALUES:
            fault = f"there are more than {MAX_VALUES} values, with all aliases expanded"
            raise TooMuchYamlError(fault, event.start_mark)
        if event.anchor is not None and node is not None:
            self._weights[node] = self._values - before
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node: yaml.ScalarNode = super().compose_scalar_node(anchor)
        is_number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        longest = LONGEST_NUMBER if is_number else LONGEST_VALUE
        if len(node.value) > longest:
            kind = "number" if is_number else "value"
            raise TooMuchYamlError(f"a {kind} has more than {longest} characters", node.start_mark)
        return node
