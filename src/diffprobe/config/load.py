"""Load and check a `Config` from YAML or plain data. Every mistake is one line that names key, value and remedy."""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from diffprobe.config import plugins
from diffprobe.config.checks import problems
from diffprobe.config.docs import words
from diffprobe.config.mistakes import Key, escaped, lines, mistakes, shown
from diffprobe.config.models import Config
from diffprobe.runtime.errors import UserError, one_line

MERGE = "tag:yaml.org,2002:merge"  # the key `<<`, of which there may be several
Raw = dict[str, object]  # a config as plain data, not yet checked


def load(*paths: str | Path, **more: object) -> Config:
    """Read and check config files. Later files are merged over earlier ones, and `more` (as `--config` in Snakemake)
    over all files. Raises UserError.
    """
    raw: object = {}
    for path in paths:
        raw = merged(raw, read(path))
    return parse(merged(raw, more) if more else raw, " + ".join(map(str, paths)))


class UniqueKeys(yaml.SafeLoader):
    """YAML whose mappings have each key once. PyYAML alone takes the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[object, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.tag != MERGE and lines.setdefault(key.value, line) != line:
                raise UserError(f"the key {key.value} stands in line {lines[key.value]} and again in line {line}")
        return super().construct_mapping(node, deep)


def read(path: str | Path) -> object:
    """A config file as plain data, {} of an empty one. Raises UserError, a line."""
    try:
        raw = yaml.load(Path(path).read_text(), UniqueKeys)
        return {} if raw is None else raw
    except UserError as error:
        raise UserError(f"{path}: {error}; keep one of the two") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file") from None
    except OSError as error:
        raise UserError(f"{path}: this config file cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or an invalid date
        raise UserError(f"{path}: not YAML: {one_line(error)}") from None


def merged(below: object, above: object) -> object:
    """`above` merged over `below`, key by key at every depth; anything but a mapping replaces the old value."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: merged(below.get(key), value) for key, value in above.items()}


def parse(raw: object, source: str = "config") -> Config:
    """Check a config in plain data. Raises UserError with one line per mistake."""
    if not isinstance(raw, dict):
        raise UserError(f"{source}: {shown(raw)} is refused; allowed: {words(Config)}")
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
        raise UserError("\n".join(f"{source}: {line}" for line in lines(raw, refusals)))
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
    trained_on = [config.autoencoders[store.autoencoder].trained_on for store in stores]
    names |= {name for name in trained_on if name is not None}
    return config.model_copy(
        update={"datasets": {name: dataset for name, dataset in config.datasets.items() if name in names}}
    )
