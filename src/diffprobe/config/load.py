"""From YAML or plain data to a checked `Config`; every mistake is a line that names key, value and remedy."""

from collections.abc import Iterator
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


def load(*paths: str | Path, **more: Any) -> Config:
    """Read and check config files, the later merged over the earlier as Snakemake does; `more` are keys as its
    `--config` gives them, over all files. Raises UserError.
    """
    raw: Any = {}
    for path in paths:
        raw = merged(raw, read(path))
    return parse(merged(raw, more) if more else raw, " + ".join(map(str, paths)))


def read(path: str | Path) -> Any:
    try:
        return yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file") from None
    except OSError as error:
        raise UserError(f"{path}: this config file cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that is none
        raise UserError(f"{path}: not YAML: {one_line(error)}") from None


def merged(below: Any, above: Any) -> Any:
    """`above` over `below`, key by key at every depth; what is no mapping replaces what was there."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: merged(below.get(key), value) for key, value in above.items()}


def parse(raw: Any, source: str = "config") -> Config:
    """Check a config given as plain data. Raises UserError, a line for each mistake."""
    if not isinstance(raw, dict):
        raise UserError(f"{source}: {shown(raw)} is refused; allowed: {words(Config)}")
    if line := missing_names(raw):
        raise UserError(f"{source}: {line}")
    raw = selected(raw)
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
    """What its entries do not allow each other, by key."""
    for key, value, allowed in problems(config):
        yield tuple(key.split(".")), f"{shown(value)} is refused; allowed: {allowed}"


def named(raw: dict[str, Any]) -> list[str] | None:
    """What `only` names; None where it is not given, or is no names at all, as the models will tell."""
    only = raw.get("only")
    names = [only] if isinstance(only, str) else only
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def missing_names(raw: dict[str, Any]) -> str | None:
    """A refusal of names in `only` that are no experiments."""
    names, experiments = named(raw), raw.get("experiments")
    if names is None or not isinstance(experiments, dict):
        return None
    wrong = [name for name in names if name not in experiments]
    if names and not wrong:
        return None
    allowed = ", ".join(map(escaped, experiments))
    return f"only: {shown(wrong[0] if wrong else [])} is refused; allowed: {allowed}"


def selected(raw: dict[str, Any]) -> dict[str, Any]:
    """The config with the experiments that `only` names alone, `each` merged over them."""
    names, each, experiments = named(raw), raw.get("each"), raw.get("experiments")
    if not isinstance(experiments, dict):
        return raw
    if names is not None:
        experiments = {name: value for name, value in experiments.items() if name in names}
    if isinstance(each, dict):
        experiments = {name: merged(value, each) for name, value in experiments.items()}
    return raw | {"experiments": experiments}


def used(config: Config) -> Config:
    """Without the datasets that no experiment needs: each is read, or downloaded, whether or not it is needed."""
    experiments = config.experiments.values()
    stores = [config.latents[experiment.latents] for experiment in experiments if experiment.latents]
    names = {experiment.dataset for experiment in experiments}
    trained_on = [config.autoencoders[store.autoencoder].trained_on for store in stores]
    names |= {name for name in trained_on if name is not None}
    return config.model_copy(
        update={"datasets": {name: dataset for name, dataset in config.datasets.items() if name in names}}
    )
