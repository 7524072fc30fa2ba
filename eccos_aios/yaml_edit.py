"""Sets keys in the text of a YAML file: every other line, comment and order stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

INDENT = 2  # columns that a new section is indented by


class UneditableYamlError(ValueError):
    """A text is written in a way in which keys cannot be set without changing more than them."""


def with_values(text: str, values: Mapping[str, Any]) -> str:
    """The text with some keys set, as few characters changed as possible.

    Parameters
    ----------
    text : str
        YAML whose top level is a mapping.
    values : mapping of str to Any
        By key a scalar, or a mapping of the same form, whose keys are set within that section.

    Raises
    ------
    UneditableYamlError
        A section occurs twice, is an alias or no section, or the result would say something else than
        the old text with these values; says which.
    """
    before = yaml.safe_load(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    edits = sorted(_edits(text, _root(text), values, newline), key=lambda edit: edit[0], reverse=True)
    edited = text
    for start, end, new in edits:
        edited = edited[:start] + new + edited[end:]
    try:
        after = yaml.safe_load(edited)
    except yaml.YAMLError as error:
        raise UneditableYamlError("its form is not one that can be edited") from error
    if after != _updated(before, values):
        raise UneditableYamlError("its form is not one that can be edited")
    return edited


def as_lines(values: Mapping[str, Any], indent: int = 0) -> list[str]:
    """The values as lines of block style."""
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{' ' * indent}{_scalar(key)}:", *as_lines(value, indent + INDENT)]
        else:
            lines.append(f"{' ' * indent}{_scalar(key)}: {_scalar(value)}")
    return lines


Edit = tuple[int, int, str]  # from this character to that one, the text that takes their place


def _root(text: str) -> yaml.MappingNode:
    root = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise UneditableYamlError("its top level is no mapping of keys to values")
    return root


def _edits(
    text: str, section: yaml.MappingNode, values: Mapping[str, Any], newline: str, path: str = ""
) -> Iterator[Edit]:
    found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in section.value:
        if key.value in values and key.value in found:
            raise UneditableYamlError(f"{path}{key.value} occurs twice")
        found[key.value] = (key, value)
    absent = {name: value for name, value in values.items() if name not in found}
    for name, value in values.items():
        if name in found:
            yield from _change(text, *found[name], value, newline, f"{path}{name}")
    if absent:
        yield _insertion(text, section, absent, newline)


def _change(text: str, key: yaml.Node, old: yaml.Node, value: Any, newline: str, path: str) -> Iterator[Edit]:
    if old.start_mark.index < key.end_mark.index:
        raise UneditableYamlError(f"{path} is an alias of another section")
    is_null = isinstance(old, yaml.ScalarNode) and old.tag == "tag:yaml.org,2002:null"
    if isinstance(value, Mapping):
        if isinstance(old, yaml.MappingNode):
            yield from _edits(text, old, value, newline, f"{path}.")
        elif is_null and not old.value:
            lines = as_lines(value, key.start_mark.column + INDENT)
            yield _after_line(text, key.end_mark.index, lines, newline)
        else:
            raise UneditableYamlError(f"{path} is no section")
        return
    if not isinstance(old, yaml.ScalarNode) or old.start_mark.line != old.end_mark.line:
        raise UneditableYamlError(f"{path} is no single value")
    if yaml.safe_load(text[old.start_mark.index : old.end_mark.index]) != value:
        blank = " " if is_null and not old.value else ""
        yield old.start_mark.index, old.end_mark.index, f"{blank}{_scalar(value)}"


def _insertion(text: str, section: yaml.MappingNode, values: Mapping[str, Any], newline: str) -> Edit:
    """New keys at the end of a section."""
    if section.flow_style:
        at = section.end_mark.index - 1
        new = _scalar(dict(values))[1:-1]
        return at, at, f", {new}" if section.value else new
    first, _ = section.value[0]
    lines = as_lines(values, first.start_mark.column)
    return _after_line(text, _content_end(section), lines, newline)


def _content_end(node: yaml.Node) -> int:
    """Where the last value of a node ends; PyYAML ends a block where the next begins, comments included."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        key, value = node.value[-1]
        after_key: int = key.end_mark.index
        return max(after_key, _content_end(value))
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        return _content_end(node.value[-1])
    end: int = node.end_mark.index
    is_block = isinstance(node, yaml.ScalarNode) and node.style in ("|", ">")
    return end - 1 if is_block and node.end_mark.column == 0 else end


def _after_line(text: str, index: int, lines: list[str], newline: str) -> Edit:
    end = text.find("\n", index)
    block = newline.join(lines) + newline
    if end < 0:
        return len(text), len(text), newline + block
    return end + 1, end + 1, block


def _scalar(value: Any) -> str:
    """A value in one line, in flow style."""
    dumped = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True
    )
    return dumped.removesuffix("...\n").strip()


def _updated(content: Any, values: Mapping[str, Any]) -> Any:
    updated = copy.copy(content) if isinstance(content, dict) else {}
    for key, value in values.items():
        updated[key] = _updated(updated.get(key), value) if isinstance(value, Mapping) else value
    return updated
