"""Experiments that repeat each other with other seeds."""

import re
from collections.abc import Iterator
from itertools import takewhile

from diffprobe.config.models import Config, Experiment
from diffprobe.runtime.files import canonical

Seeds = tuple[int, int]  # of training, of samples


def repeats(config: Config) -> dict[str, dict[str, Seeds]]:
    """Groups of experiments that differ in `train.seed` and `sample.seed` alone, in the order of the config: the seeds
    of each member. An experiment of its own is in no group.

    A group is named by what its members' names begin with: `abs` for abs_0, abs_1 and abs_2.
    """
    alike: dict[str, dict[str, Seeds]] = {}
    for name, experiment in config.experiments.items():
        seeds = experiment.train.seed, experiment.sample.seed
        alike.setdefault(without_seeds(experiment), {})[name] = seeds
    groups: dict[str, dict[str, Seeds]] = {}
    for members in alike.values():
        if len(members) > 1:
            letters = takewhile(lambda column: len(set(column)) == 1, zip(*members, strict=False))
            common = re.sub(r"[_.-]*(seed)?[_.-]*\d*$", "", "".join(column[0] for column in letters))
            groups[common if common and common not in groups else next(iter(members))] = members
    return groups


def histories(config: Config) -> Iterator[tuple[str, int]]:
    """Experiment and checkpoint of each training whose loss stands in the table of groups."""
    for members in repeats(config).values():
        for name in members:
            train = config.experiments[name].train
            if not train.imported:
                yield from ((name, kimg) for kimg in train.checkpoints)


def without_seeds(experiment: Experiment) -> str:
    return canonical(experiment.model_dump(mode="json", exclude={"train": {"seed"}, "sample": {"seed"}}))
