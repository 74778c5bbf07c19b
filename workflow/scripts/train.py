"""One slice of a training run: from the checkpoint before (or nothing) to the next.

Config: task (diffusion, classification or autoencoding), network, train, and what the task needs. Inputs: images;
latents and autoencoder where a diffusion model sees latents; before, the checkpoint before.
"""

from dataclasses import dataclass, field

import torch

from diffprobe.data import images
from diffprobe.data.batch import Batches
from diffprobe.data.views import LABEL
from diffprobe.diffusion.edm import EDM
from diffprobe.latents.identity import expected
from diffprobe.latents.store import Latents, open_store
from diffprobe.latents.stream import LatentStream
from diffprobe.networks.autoencoder import Codec
from diffprobe.networks.build import build
from diffprobe.runtime.files import digest, sha256, write_jsonl
from diffprobe.runtime.job import Job, run
from diffprobe.runtime.keyed import Key, torch_seed
from diffprobe.runtime.locks import exclusive
from diffprobe.runtime.receipts import code_version
from diffprobe.training import checkpoints
from diffprobe.training.loop import Options, fresh
from diffprobe.training.slices import Slice, run_slice, tidy
from diffprobe.training.state import State
from diffprobe.training.stream import Stream
from diffprobe.training.tasks import Autoencoding, Classification, Diffusion, Task


@dataclass(frozen=True)
class Data:
    """What is trained on: an image store, and the latents of its images where they are what the network sees."""

    images: dict  # what the image store says of itself
    latents: Latents | None = None
    header: dict = field(default_factory=dict)  # what a checkpoint must tell of the latents

    @property
    def image(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.images["channels"], self.images["size"], self.images["size"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the network sees."""
        return self.latents.shape if self.latents else self.image

    @property
    def content(self) -> str:
        return self.latents.content if self.latents else self.images["content"]


def open_data(job: Job) -> Data:
    store = images.describe(job.input("images"))
    if "latents" not in job.inputs:
        return Data(store)
    wanted = expected(job.config["latents"], job.input("images"), job.input("autoencoder"))
    latents = open_store(job.input("latents").parent, wanted)
    scaling = {"scale": latents.scale.tolist(), "shift": latents.shift.tolist()}
    image = (store["channels"], store["size"], store["size"])
    return Data(store, latents, {"latents": {**scaling, "image": image, "content": latents.content}})


def make_stream(job: Job, data: Data, options: Options) -> Batches:
    splits = job.config["train"]["splits"]
    if data.latents:
        return LatentStream(data.latents, splits, options.batch, options.seed, job.device)
    found = images.read(job.input("images"), splits)
    pixels, labels = torch.from_numpy(found.images), torch.from_numpy(found.labels)
    return Stream(pixels, labels, options.batch, options.seed, job.device)


def make_task(config: dict, data: Data, shape: dict, seed: int) -> Task:
    """The task with a network of fresh weights; `shape` is what of the network follows from the data."""
    torch.manual_seed(torch_seed(Key(seed, "weights"), 0))
    network = build(config["network"], **shape)
    if config["task"] == "classification":
        return Classification(network)
    if config["task"] == "autoencoding":
        return Autoencoding(Codec(network, **codec(config), image=data.image), config["train"]["kl_weight"])
    return Diffusion(network, EDM.of(config["process"]), config["network"].get("label_dropout", 0.0))


def network_shape(config: dict, data: Data) -> dict[str, int]:
    classes = len(data.images["classes"])
    if config["task"] == "autoencoding":
        return {}
    told = config["task"] == "classification" or (config["network"].get("conditional") and classes)
    views = len(data.latents.views["train"]) if data.latents and config["network"].get("augment") else 1
    shape = {"classes": classes if told else 0, "augment": LABEL if views > 1 else 0}
    return {"image_channels": data.shape[0], **{name: count for name, count in shape.items() if count}}


def codec(config: dict) -> dict:
    return {"size": config["size"], "channels": config["network"]["channels"], "resize": config["resize"]}


def options(train: dict) -> Options:
    return Options(
        batch=train["batch"],
        lr=train["lr"],
        seed=train["seed"],
        warmup=1000 * train["warmup_kimg"],
        ema_half_life=1000 * train["ema_kimg"],
        ema_ramp=train["ema_ramp"],
        clip=train["clip"],
        weight_decay=train["weight_decay"],
    )


def make_slice(job: Job, data: Data) -> Slice:
    before = job.inputs.get("before")
    return Slice(
        run=job.output("ema").parents[2],
        kimg=int(job.options["kimg"]),
        start=int(job.options["start"]),
        stop=int(job.options["stop"]),
        identity=digest({"config": job.config, "content": data.content}),
        code=digest(code_version()),
        parent=sha256(before) if before else "",
    )


def header(config: dict, data: Data, shape: dict, part: Slice, seen: int) -> dict:
    """What a checkpoint tells of itself."""
    head = {"network": config["network"], "process": config.get("process"), "shape": shape, "image": list(data.shape)}
    if config["task"] == "autoencoding":
        head["codec"] = codec(config)
    return head | {"images": seen, "identity": part.identity} | data.header


def main(job: Job) -> None:
    config, device = job.config, job.device
    data = open_data(job)
    part, opts, shape = make_slice(job, data), options(config["train"]), network_shape(config, data)
    task = make_task(config, data, shape, opts.seed)
    task.module.to(device, memory_format=torch.channels_last)
    stream = make_stream(job, data, opts)
    begun = []

    def report(state: State) -> None:
        if not begun:
            begun.append(state.step)
            job.progress.start(part.stop * opts.batch, "images", state.step * opts.batch)
            print(f"training {part.run} from step {state.step} to {part.stop}", file=job.log)
        last = f"loss {state.history[-1]['loss']:.4f}" if state.history else ""
        job.progress.update(state.step * opts.batch, last)

    waiting = f"waits: another process ({{}}) still trains in {part.run}; it goes on when that one ends"
    with exclusive(part.run / "scratch" / "lock", lambda owner: job.say(waiting.format(owner))):
        state = fresh(task, opts)
        rows = run_slice(part, task, stream, opts, state, float(job.options["autosave"]), report)
        seen = state.step * opts.batch
        head = header(config, data, shape, part, seen)
        checkpoints.write(job.output("raw"), state.module, head | {"weights": "raw"})
        checkpoints.write(job.output("ema"), state.ema.module, head | {"weights": "ema"})
        write_jsonl(job.output("stats"), rows)
        job.write_receipt(
            images=seen, from_step=begun[0], to_step=part.stop, images_per_second=round(job.progress.rate, 1)
        )
        tidy(part, job.options["keep"])


if __name__ == "__main__":
    run(main)
