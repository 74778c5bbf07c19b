"""The arguments of jobs decide what is made again, so those of every shipped recipe are held here, a line each.

A change of a line of tests/data/job_arguments.txt retrains or remeasures everybody's projects: it has to be said in
docs/LOG.md, with what is made anew and why. A key that came later and has its default changes none (`base.LATER`).

    python tests/test_job_arguments.py    # writes the file anew
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from diffprobe.config.autoencoders import Trained
from diffprobe.config.base import LATER, Strict
from diffprobe.config.extractors.classifier import ClassifierExtractor
from diffprobe.config.load import load
from diffprobe.config.models import Config
from diffprobe.plan import job_arguments as arguments
from diffprobe.plan import probe_job_arguments as probes
from diffprobe.plan.uses import measured, measured_at_once, references, used_extractors, used_latents
from diffprobe.runtime.files import canonical

ROOT = Path(__file__).parents[1]
RECIPES = ("config", "cifar10_smoke", "ddae", "ddae_dit", "dit_gta", "celebahq", "cifar10_latents", "soda")
VARIABLES = ("CIFAR10_ZIP", "CIFAR10_A", "CIFAR10_B", "CELEBAHQ", "IMAGENET")
HELD = ROOT / "tests/data/job_arguments.txt"


def jobs(config: Config) -> Iterator[tuple[str, arguments.Argument]]:
    """Each kind of job of a config, at the first checkpoint and sampler, with its argument."""
    for name, dataset in config.datasets.items():
        yield f"images {name}", arguments.images(dataset, state=None)
    for name, extractor in used_extractors(config).items():
        if isinstance(extractor, ClassifierExtractor):
            yield f"classifier {name}", arguments.classifier(extractor)
    for dataset_name, name in references(config):
        yield f"reference {dataset_name} {name}", arguments.reference(config, name)
    for name, latents in used_latents(config).items():
        autoencoder = config.autoencoders[latents.autoencoder]
        if isinstance(autoencoder, Trained):
            yield f"autoencoder {latents.autoencoder}", arguments.autoencoder(autoencoder)
        yield f"encode {name}", arguments.encode(config, name)
        yield f"latents {name}", arguments.finish(config, name)
        yield f"reconstruct {name}", arguments.reconstruct(config, name)
    for name, e in config.experiments.items():
        sampler, kimg = next(iter(e.sample.samplers)), e.train.checkpoints[0]
        row = arguments.row(e, name, kimg=kimg, sampler=sampler)
        yield f"pretrain {name}", arguments.pretrain(config, e)
        if measured_at_once(e):
            yield f"generate {name}", arguments.generate(config, e, sampler, row)
        else:
            yield f"sample {name}", arguments.sample(e, sampler)
            if measured(e):
                yield f"generation {name}", arguments.generation(config, e, row)
        if e.generation and e.generation.nearest:
            yield f"nearest {name}", arguments.nearest(e.generation.nearest, row, e.train)
        if e.generation and e.generation.decodings:
            yield f"decodings {name}", arguments.decodings(e, sampler, row)
        if e.probe:
            yield f"features {name}", probes.features(e, 0)
            yield f"grid {name}", probes.grid(e, arguments.row(e, name, kimg=kimg))
            yield f"chosen {name}", probes.chosen(e)
            for evaluator in e.probe.evaluators:
                yield f"evaluate {name} {evaluator}", probes.evaluate(e, evaluator, arguments.row(e, name))


def lines() -> list[str]:
    configs = {name: load(ROOT / f"config/{name}.yaml") for name in RECIPES}
    return [f"{name}: {job}: {canonical(text)}" for name, config in configs.items() for job, text in jobs(config)]


def test_arguments_of_every_recipe_are_as_they_were(monkeypatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "/nowhere/images")
    assert lines() == HELD.read_text().splitlines()


def test_a_later_key_changes_nothing_while_it_has_its_default() -> None:
    class Inner(Strict):
        old: int = 1
        new: Annotated[int, LATER] = Field(2)

    class Outer(Strict):
        inner: Inner = Field(default_factory=Inner)
        choice: Annotated[str, LATER] = "as before"

    assert Outer().model_dump(mode="json") == {"inner": {"old": 1}}
    changed = Outer(inner=Inner(new=3), choice="other").model_dump(mode="json")
    assert changed == {"inner": {"old": 1, "new": 3}, "choice": "other"}


if __name__ == "__main__":
    os.environ |= dict.fromkeys(VARIABLES, "/nowhere/images")
    HELD.write_text("".join(f"{line}\n" for line in lines()))
