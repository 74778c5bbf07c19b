"""From typed settings (config/processes.py, config/samplers.py) to processes and samplers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from diffprobe.diffusion.levels import Level
from diffprobe.diffusion.process import Process
from diffprobe.diffusion.samplers import Denoiser, Noise, Trajectory, Watch, clipped
from diffprobe.runtime.located import located

if TYPE_CHECKING:
    from diffprobe.config import processes, samplers


@dataclass(frozen=True)
class Sampler:
    """A sampler with the process and the levels at which it samples; the last level is where it ends."""

    process: Process
    levels: list[Level]
    settings: "samplers.Sampler"

    def run(self, denoise: Denoiser, x: Tensor, noise: Noise, watch: Watch | None = None) -> Tensor:
        """Images (B, C, H, W) from normal noise x of their shape; see `samplers.Trajectory` for the others."""
        # The denoiser is guided already: guidance acts before clipping.
        denoise = clipped(denoise) if self.settings.clip else denoise
        trajectory = Trajectory(denoise, self.levels, noise, self.process.level, watch, x.dtype)
        start = self.process.start(x, self.levels[0]).double()
        return located(self.settings.build)(trajectory, start, self.settings).to(x.dtype)


def build_process(settings: "processes.Process") -> Process:
    return located(settings.build)(**settings.options)


def build_sampler(settings: "samplers.Sampler", process: "processes.Process") -> Sampler:
    """A sampler of a process. It samples at the process's `schedule`, by those settings that the schedule takes."""
    built = build_process(process)
    chosen: dict[str, Any] = {name: getattr(settings, name, None) for name in process.schedule}
    levels = built.schedule(**{name: value for name, value in chosen.items() if value is not None})
    located(settings.build)  # loaded now, so that it is part of the code's version before anything is drawn
    return Sampler(built, levels, settings)
