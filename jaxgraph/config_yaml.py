"""Reads a YAML config with every problem at once, each with its line.

YAML serves for structure only: scalars stay the text that was written until the type of their field
reads them (`config_values`), so YAML 1.1 cannot turn `no` into False or `1e-4` into a string.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_origin

import yaml

from jaxgraph import config_values
from jaxgraph.config_keys import sections_of, stop, suggest
from jaxgraph.errors import UserError

_NULLS = ("", "~", "null", "Null", "NULL")


def read_file(path: str) -> str:
    """The text of a file that the user names."""
    try:
        return Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from error
    except IsADirectoryError as error:
        raise UserError(f"--config: {path!r} is a folder; allowed: a YAML file in it") from error
    except FileNotFoundError as error:
        near = get_close_matches(path, map(str, Path(path).parent.glob("*.yaml")), n=1)
        example = near[0] if near else "configs/moe.yaml"
        remedy = f"did you mean {example!r}?" if near else f"allowed: a file such as {example}"
        raise UserError(f"--config: no file {path!r}; {remedy}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"--config: cannot read {path!r}: {error}") from error


def parse(text: str, name: str) -> yaml.Node | None:
    """Parses to nodes, whose scalars are still text; `name` stands for the file in messages."""
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.TagToken):
                tag, line = "".join(filter(None, token.value)), token.start_mark.line + 1
                raise UserError(f"{name}:{line}: tag {tag!r} is not allowed; write a plain value")
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark or error.context_mark).line + 1
        what = " ".join(filter(None, (error.context, error.problem)))
        raise UserError(f"{name}:{line}: not YAML: {what}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{name}:{line}: not YAML: {error.reason}") from error
    except RecursionError as error:
        raise UserError(f"{name}: nested too deeply to be a config") from error


@dataclass
class Reading:
    """What a YAML file says, by dotted key."""

    name: str
    types: dict[str, Any]
    """The keys to know; all others become problems."""
    values: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    """File, line and key of each value, for whoever finds a problem with it later."""
    problems: list[str] = field(default_factory=list)

    def read(self, node: yaml.Node | None, section: str = "") -> "Reading":
        """Reads the keys below `section`, which ends with a dot or is the whole file."""
        sections = sections_of(self.types)
        for name, line, value in self._pairs(node, section):
            key = section + name
            if "." not in name and key in sections:
                self.read(value, f"{key}.")
            elif "." not in name and key in self.types:
                self._take(key, line, value)
            else:
                near = sections if isinstance(value, yaml.MappingNode) else list(self.types)
                problem = f"unknown key (got {_show(value)}); {_remedy(name, key, near)}"
                self._report(line, key, problem)
        return self

    def _pairs(self, node: yaml.Node | None, section: str) -> Iterator[tuple[str, int, yaml.Node]]:
        """Name, line and value of each key, once."""
        # A section whose every line is commented out says nothing, like an empty file.
        if node is None or (isinstance(node, yaml.ScalarNode) and _show(node) == "no value"):
            return
        if not isinstance(node, yaml.MappingNode):
            problem = f"got {_show(node)}, not a section; {suggest(section, list(self.types))}"
            self._report(_line(node), section[:-1], problem)
            return
        lines: dict[str, int] = {}
        for name_node, value in node.value:
            name, line = name_node.value, _line(name_node)
            if not isinstance(name_node, yaml.ScalarNode):
                self._report(line, section[:-1], f"key {_show(name_node)}; allowed: plain names")
            elif name in lines:
                problem = f"got {_show(value)} again after line {lines[name]}; keep one"
                self._report(line, section + name, problem)
            else:
                lines[name] = line
                yield name, line, value

    def _take(self, key: str, line: int, node: yaml.Node) -> None:
        try:
            self.values[key] = _read_value(node, self.types[key])
            self.labels[key] = f"{self.name}:{line}: {key}"
        except ValueError as error:
            self._report(line, key, str(error))

    def _report(self, line: int, key: str, problem: str) -> None:
        self.problems.append(f"{self.name}:{line}: {key or 'top level'}: {problem}")


def find(root: yaml.Node | None, key: str, hint: Any, name: str) -> Any:
    """The value of one top-level key, or None; for what must be known before all other keys."""
    if not isinstance(root, yaml.MappingNode):
        return None
    only = [(name_node, value) for name_node, value in root.value if name_node.value == key]
    reading = Reading(name, {key: hint}).read(yaml.MappingNode(root.tag, only))
    stop(reading.problems)
    return reading.values.get(key)


def _read_value(node: yaml.Node, hint: Any) -> Any:
    if config_values.is_tuple(hint) and isinstance(node, yaml.SequenceNode):
        hints = config_values.element_types(hint, len(node.value))
        return tuple(map(_read_value, node.value, hints))
    if config_values.is_tuple(hint) or not isinstance(node, yaml.ScalarNode):
        raise config_values.wrong(_show(node), hint)
    optional = config_values.is_optional(hint)
    kind = config_values.without_none(hint) if optional else hint
    base, _ = config_values.split(kind)
    if node.style is None and node.value in _NULLS:
        if optional and node.value:
            return None
        remedy = "in quotes if you mean the word" if base is str and node.value else ""
        raise config_values.wrong(_show(node), hint, remedy)
    if node.style is not None and base is not str and get_origin(base) is not Literal:
        raise config_values.wrong(_show(node), hint, "without quotes")
    return config_values.read(node.value, kind)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _show(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return config_values.show(node.value) if node.value or node.style else "no value"
    kind = "list" if isinstance(node, yaml.SequenceNode) else "section"
    source = node.start_mark.buffer[node.start_mark.pointer : node.end_mark.pointer]
    return f"the {kind} {config_values.show(' '.join(source.split()))}"


def _remedy(written: str, key: str, names: list[str]) -> str:
    if written == "<<":
        return "merges are not read; write its keys out"
    if "." in written and key in names:
        return f"write it nested: '{written.replace('.', ': {')}: ...{'}' * written.count('.')}'"
    return suggest(key, names)
