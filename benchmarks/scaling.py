"""What three large cases take: bytes, jobs, reads per second, hours. Writes docs/SCALING.md.

    python benchmarks/scaling.py                       # the page
    python benchmarks/scaling.py --write               # to docs/SCALING.md
    python benchmarks/scaling.py --check               # fails where docs/SCALING.md says anything else
    python benchmarks/scaling.py --config imagenet     # a case's config, for describe and snakemake -n; or many

Nothing is trained, and no GPU is needed: sizes, FLOPs and jobs come from the same functions as `diffprobe describe` and
the workflow's target. Hours follow from the figures of `Machine`, which are assumptions. The table of the simulated
reader is the last run of benchmarks/object_store.py, kept in benchmarks/object_store.jsonl.
"""

import argparse
import difflib
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from scaling_page import Case, page

from diffprobe.config.load import parse
from diffprobe.networks.flops import flops
from diffprobe.plan.graph import stages
from diffprobe.reporting.describe import description

ROOT = Path(__file__).parents[1]
PAGE, READER = ROOT / "docs" / "SCALING.md", ROOT / "benchmarks" / "object_store.jsonl"

IMAGENET = """
results: results/scaling
datasets:
  imagenet: {source: {kind: imagenet, path: /data/imagenet}, size: 256, decode: when_read}
autoencoders:
  sd: {kind: pretrained, source: stabilityai/sd-vae-ft-ema, size: 256, latent_channels: 4, factor: 8}
latents:
  imagenet_sd:
    dataset: imagenet
    autoencoder: sd
    scale: published
    views: [{kind: identity}, {kind: crop, count: 9, pad: 32}]
    jobs: 64
memory_budget: {host_gib: 200}
extractors:
  inception: {kind: inception}
experiments:
  dit_xl2: &dit
    dataset: imagenet
    latents: imagenet_sd
    network: {kind: dit, width: 1152, depth: 28, heads: 16, patch: 2, conditional: true}
    process: {kind: ddpm}
    train: {checkpoints: [25600, 51200, 76800, 102400], batch: 256, lr: 1.0e-4, devices: 8}
    sample:
      samplers: {guided: {kind: ddim, steps: 250, guidance: 1.5}}
      keep_samples: 1000
    generation: {extractors: [inception]}
    probe: {taps: [block_13], levels: [{t: 81}, {t: 121}], evaluators: {linear: {kind: linear}}}
  dit_b2:
    <<: *dit
    network: {kind: dit, width: 768, depth: 12, heads: 12, patch: 2, conditional: true}
    probe: null
"""


@dataclass(frozen=True)
class Machine:
    """Assumptions: a node of eight H200. Nothing here was measured on such nodes but `peak`, on one GPU."""

    peak: float = 790e12  # dense bf16 FLOP/s of a large matrix product
    share: float = 0.45  # of it, that training and sampling reach
    gpus: int = 8  # of a node
    nodes: int = 8
    nvlink: float = 450e9  # bytes/s of a GPU to the others of its node, each way
    network: float = 50e9  # bytes/s of a GPU to other nodes: 400 Gbit/s each
    decode: float = 352  # JPEGs/s of a core, 500x375 cropped to 256 (docs/BENCHMARKS.md)
    disk: float = 2e9  # bytes/s, sequential

    @property
    def rate(self) -> float:
        """FLOP/s of a GPU."""
        return self.peak * self.share


def many(experiments: int = 100, checkpoints: int = 20) -> dict[str, Any]:
    """DDAE's DDPM_ddpm on CIFAR-10 by as many seeds, each with as many checkpoints."""
    raw = yaml.safe_load((ROOT / "config" / "ddae.yaml").read_text())
    recipe = raw["experiments"]["DDPM_ddpm"]
    last = recipe["train"]["checkpoints"][-1]
    steps = [last * (i + 1) // checkpoints for i in range(checkpoints)]
    runs = {
        f"run_{seed:03}": recipe | {"train": recipe["train"] | {"checkpoints": steps, "seed": seed}}
        for seed in range(experiments)
    }
    shared = {"datasets": {"cifar10": raw["datasets"]["cifar10"]}, "extractors": raw["extractors"]}
    return {"results": "results/scaling_many", **shared, "experiments": runs}


CONFIGS = {"imagenet": lambda: yaml.safe_load(IMAGENET), "many": many}


def case(name: str, experiments: list[str]) -> Case:
    """What the product says of a config: its jobs and files, and the costs of some of its experiments."""
    config = parse(CONFIGS[name](), name)
    jobs = stages(config)
    return Case(
        config,
        {experiment: description(config, experiment) for experiment in experiments},
        dict(Counter(job.rule for job in jobs)),
        sum(len(job.files) for job in jobs),
    )


def autoencoder_flops(size: int = 256) -> tuple[int, int]:
    """Of encoding and decoding an image by Stable Diffusion's autoencoder, counted on the meta device."""
    import torch
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        model = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
        )
        image, latent = torch.zeros(1, 3, size, size), torch.zeros(1, 4, size // 8, size // 8)
        return flops(lambda: model.encode(image)), flops(lambda: model.decode(latent))


def text() -> str:
    rows = [json.loads(line) for line in READER.read_text().splitlines()] if READER.exists() else []
    imagenet, runs = case("imagenet", ["dit_xl2", "dit_b2"]), case("many", ["run_000"])
    return page(Machine(), imagenet, runs, autoencoder_flops(), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/SCALING.md")
    parser.add_argument("--check", action="store_true", help="compare docs/SCALING.md with what would be written")
    parser.add_argument("--config", choices=CONFIGS, help="print the config of a case")
    arguments = parser.parse_args()
    if arguments.config:
        print(yaml.safe_dump(CONFIGS[arguments.config](), sort_keys=False), end="")
    elif arguments.write:
        PAGE.write_text(text())
    elif arguments.check:
        lines = difflib.unified_diff(PAGE.read_text().splitlines(), text().splitlines(), "as it is", "as computed", n=0)
        if difference := "\n".join(lines):
            sys.exit(f"{difference}\n{PAGE}: out of date; python benchmarks/scaling.py --write")
    else:
        print(text(), end="")


if __name__ == "__main__":
    main()
