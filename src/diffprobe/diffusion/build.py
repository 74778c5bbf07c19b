"""From config subtrees to processes and samplers. A new one is one module and one line here."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from diffprobe.diffusion import samplers
from diffprobe.diffusion.ddpm import DDPM
from diffprobe.diffusion.edm import EDM
from diffprobe.diffusion.flow import Flow
from diffprobe.diffusion.levels import Level
from diffprobe.diffusion.process import Process

PROCESSES = {"edm": EDM, "ddpm": DDPM, "flow": Flow}
SAMPLERS = {"ddpm": samplers.ancestral, "ddim": samplers.ddim, "heun": samplers.heun, "euler": samplers.euler}
# Keys of a sampler's config that say at which of a process's levels it samples.
SCHEDULE = {"edm": ("steps", "rho"), "ddpm": ("steps",), "flow": ("steps", "shift")}
OPTIONS = ("variance", "eta")  # and those that its function takes


class Sampler(NamedTuple):
    """`run(denoise, x, noise, watch)` samples at `levels`, whose last is where it ends; see `samplers`."""

    process: Process
    levels: list[Level]
    run: Callable[..., Tensor]


def build_process(config: dict[str, Any]) -> Process:
    """The process of a config subtree with a `kind`."""
    return PROCESSES[config["kind"]](**{key: value for key, value in config.items() if key != "kind"})


def build_sampler(config: dict[str, Any], process: dict[str, Any]) -> Sampler:
    """A sampler (its config) of a process (its config)."""
    table = {"table": config["table"]} if config.get("table") else {}
    made = build_process(process | table)
    levels = made.schedule(**{key: config[key] for key in SCHEDULE[process["kind"]] if config.get(key) is not None})
    options = {key: config[key] for key in OPTIONS if key in config}
    if config.get("churn"):
        options["raised"] = made.raised(levels, config["churn"], config["churn_min"], config["churn_max"])
        options["inflate"] = config["churn_noise"]

    def run(
        denoise: samplers.Denoiser, x: Tensor, noise: samplers.Noise, watch: samplers.Watch | None = None
    ) -> Tensor:
        denoise = samplers.clipped(denoise) if config.get("clip") else denoise
        return SAMPLERS[config["kind"]](denoise, made.start(x, levels[0]), levels, noise, watch=watch, **options)

    return Sampler(made, levels, run)
