"""Load and check a `Config` from YAML or plain data. Every mistake is one line that names key, value and remedy."""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

from diffprobe.config import plugins
from diffprobe.config.checks import problems
from diffprobe.config.mistakes import Key, escaped, lines, mistakes, shown
from diffprobe.config.models import Config
from diffprobe.runtime.errors import UserError, one_line, unreadable

try:
    from yaml.cyaml import CParser as Events  # of libyaml, five times as fast
except ImportError:  # PyYAML was built without it

    class Events(Reader, Scanner, Parser):  # type: ignore[no-redef]
        def __init__(self, stream: str) -> None:
            Reader.__init__(self, stream)
            Scanner.__init__(self)
            Parser.__init__(self)


MERGE = "tag:yaml.org,2002:merge"  # the key `<<`, of which there may be several
# Far above any real config; below them nothing that reads it takes long.
BYTES, VALUES, DEPTH, LENGTH = 1 << 20, 100_000, 50, 4096
LISTED = 50  # mistakes at most
Raw = dict[str, object]  # a config as plain data, not yet checked


def load(*paths: str | Path, **more: object) -> Config:
    """Read and check config files. Later files are merged over earlier ones, and `more` (as `--config` in Snakemake)
    over all files. Raises UserError.
    """
    raw: object = {}
    for path in paths:
        raw = merged(raw, read(path))
    return parse(merged(raw, more) if more else raw, " + ".join(map(printable, paths)))


class ConfigLoader(Composer, Events, SafeConstructor, Resolver):
    """YAML of bounded extent whose mappings have each key once. PyYAML alone takes the last one without a word.

    Aliases count as what they stand for: a few lines of aliases of aliases would be more than any memory holds.
    """

    def __init__(self, stream: str) -> None:
        Events.__init__(self, stream)
        for part in (Composer, SafeConstructor, Resolver):
            part.__init__(self)
        self.depth = 0
        self.sizes: dict[int, int] = {}  # of the values below each node, by its id

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node:
        event = self.peek_event()
        line = event.start_mark.line + 1
        self.depth += 1
        if self.depth > DEPTH:  # PyYAML recurses
            raise UserError(f"line {line} is nested more than {DEPTH} deep; a config needs no such depth")
        node = super().compose_node(parent, index)
        assert node is not None  # there is an event
        self.depth -= 1
        if isinstance(event, yaml.AliasEvent) and id(node) not in self.sizes:
            raise UserError(f"line {line}: the alias {event.anchor} stands inside what it names; write it out")
        if isinstance(node, yaml.ScalarNode):
            refuse_text(node.value, line)
        self.sizes[id(node)] = size = 1 + sum(self.sizes[id(part)] for part in parts(node))
        if size > VALUES:
            raise UserError(f"line {line} expands to more than {VALUES:,} values; use fewer aliases of aliases")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[object, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"line {line}: a list or a mapping stands in the place of a key; use a name")
            if key.tag != MERGE and key.value in lines:
                places = f"in line {lines[key.value]} and again in line {line}"
                raise UserError(f"the key {key.value} stands {places}; keep one of the two")
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def parts(node: yaml.Node) -> list[yaml.Node]:
    """The nodes directly below a node of YAML."""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def refuse_text(text: str, line: int) -> None:
    """Raise UserError for a value that is too long, or no text that can be written to a file."""
    if len(text) > LENGTH:
        raise UserError(f"line {line}: a value of {len(text):,} characters; allowed: at most {LENGTH:,}")
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
        raise UserError(f"line {line}: holds \\0 or half of a surrogate pair, which no file or name can; correct it")


def read(path: str | Path) -> Raw:
    """A config file as plain data, {} of an empty one. Raises UserError, a line."""
    name = printable(path)
    try:
        with Path(path).open("rb") as file:
            text = file.read(BYTES + 1)
        if len(text) > BYTES:
            raise UserError(f"more than {BYTES >> 20} MiB, which no config of experiments has; check the path")
        raw = yaml.load(text.decode("utf-8-sig"), ConfigLoader)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except FileNotFoundError:
        raise UserError(f"{name}: no such config file; check the path") from None
    except OSError as error:
        raise unreadable(name, error, "check it") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{name}: not YAML: {place}{error.problem or error.context}; correct it") from None
    except (yaml.YAMLError, ValueError) as error:  # not UTF-8, an invalid date
        raise UserError(f"{name}: not YAML: {one_line(error)}; correct it") from None
    if raw is not None and not isinstance(raw, dict):
        raise UserError(f"{name}: {shown(raw)} is refused; allowed: keys and values, such as datasets and experiments")
    return raw or {}


def printable(path: str | Path) -> str:
    """A path in one line, quoted where it holds line breaks or escapes."""
    return str(path) if str(path).isprintable() else repr(str(path))


def merged(below: object, above: object) -> object:
    """`above` merged over `below`, key by key at every depth; anything but a mapping replaces the old value."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: merged(below.get(key), value) for key, value in above.items()}


def parse(raw: object, source: str = "config") -> Config:
    """Check a config in plain data. Raises UserError with one line per mistake."""
    if not isinstance(raw, dict):
        raise UserError(f"{source}: {shown(raw)} is refused; allowed: keys and values")
    if line := missing_names(raw):
        raise UserError(f"{source}: {line}")
    raw = selected(raw)  # before validation, so that unselected experiments may be broken
    # Plugins register their kinds, which validation then accepts.
    plugins.load(raw.get("plugins"), source)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        refusals = mistakes(error.errors(), raw)
    else:
        refusals = list(contradictions(config))
    if refusals:
        all_lines = [f"{source}: {line}" for line in lines(raw, refusals[:LISTED])]
        more = [f"{source}: and {len(refusals) - LISTED} more"] if len(refusals) > LISTED else []
        raise UserError("\n".join(all_lines + more))
    return used(config) if config.only else config


def contradictions(config: Config) -> Iterator[tuple[Key, str]]:
    """Conflicts between entries, by key."""
    for key, value, allowed in problems(config):
        yield tuple(key.split(".")), f"{shown(value)} is refused; allowed: {allowed}"


def named(raw: Raw) -> list[str] | None:
    """The names in `only`; None if it is absent or malformed, which validation then reports."""
    only = raw.get("only")
    names = [only] if isinstance(only, str) else only
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def missing_names(raw: Raw) -> str | None:
    """The refusal of a name in `only` that is not an experiment; None if all are."""
    names, experiments = named(raw), raw.get("experiments")
    if names is None or not isinstance(experiments, dict):
        return None
    wrong = [name for name in names if name not in experiments]
    if names and not wrong:
        return None
    allowed = ", ".join(map(escaped, experiments))
    return f"only: {shown(wrong[0] if wrong else [])} is refused; allowed: {allowed}"


def selected(raw: Raw) -> Raw:
    """The config reduced to the experiments in `only`, with `each` merged over them."""
    names, each, experiments = named(raw), raw.get("each"), raw.get("experiments")
    if not isinstance(experiments, dict):
        return raw
    if names is not None:
        experiments = {name: value for name, value in experiments.items() if name in names}
    if isinstance(each, dict):
        experiments = {name: merged(value, each) for name, value in experiments.items()}
    return raw | {"experiments": experiments}


def used(config: Config) -> Config:
    """Drop datasets that no experiment needs, since every listed dataset is downloaded and read."""
    experiments = config.experiments.values()
    stores = [config.latents[experiment.latents] for experiment in experiments if experiment.latents]
    names = {experiment.dataset for experiment in experiments}
    names = names.union(*(experiment.probe.transfer for experiment in experiments if experiment.probe))
    trained_on = [config.autoencoders[store.autoencoder].trained_on for store in stores]
    names |= {name for name in trained_on if name is not None}
    return config.model_copy(
        update={"datasets": {name: dataset for name, dataset in config.datasets.items() if name in names}}
    )
