"""One slice of a training run: from the checkpoint before (or nothing) to the next.

Config: task (diffusion, classification or autoencoding), network, train, and what the task needs. Inputs: images;
latents and autoencoder where a diffusion model sees latents; before, the checkpoint before; vgg, weights for LPIPS.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch

from diffprobe.data import augment, images, views
from diffprobe.data.batch import Feed
from diffprobe.diffusion.build import build_process
from diffprobe.latents.identity import expected
from diffprobe.latents.store import Latents, open_store
from diffprobe.networks.autoencoder import Codec
from diffprobe.networks.build import build
from diffprobe.networks.compiled import compiled
from diffprobe.networks.flops import on_meta, training_flops
from diffprobe.networks.perceptual import LPIPS, available
from diffprobe.runtime.files import digest, sha256, write_jsonl
from diffprobe.runtime.job import Job, run
from diffprobe.runtime.keyed import Key, torch_seed
from diffprobe.runtime.locks import exclusive
from diffprobe.runtime.receipts import code_version
from diffprobe.training import checkpoints
from diffprobe.training.autoencoding import autoencoding
from diffprobe.training.events import Events
from diffprobe.training.latentstream import Budget, LatentStream, open_source
from diffprobe.training.loop import Options, fresh, refuse_batch_statistics
from diffprobe.training.slices import Slice, run_slice, tidy
from diffprobe.training.state import State
from diffprobe.training.stream import open_stream
from diffprobe.training.tasks import Classification, Diffusion, Task, View, modules
from diffprobe.training.world import World


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


def make_stream(job: Job, data: Data, options: Options, world: World) -> Feed:
    train = job.config["train"]
    if data.latents:
        budget = Budget(*(float(gib) * 2**30 for gib in job.options["memory"].split("/")))
        asked = (train["splits"], options.seed, job.device, train["window_mib"] * 2**20, budget, options.batch, world)
        source, how = open_source(data.latents, *asked)
        print(how, file=job.log)
        return LatentStream(data.latents, source, options.seed, train["latents_as"])
    resident = train["resident_gib"] * 2**30
    return open_stream(job.input("images"), train["splits"], options.seed, job.device, resident)


def make_task(config: dict, data: Data, shape: dict, seed: int, perceptual: LPIPS | None = None) -> Task:
    """The task with networks of fresh weights; `shape` is what of the network follows from the data."""
    torch.manual_seed(torch_seed(Key(seed, "weights"), 0))
    network = build(config["network"], **shape)
    if config["task"] == "classification":
        return Classification(network)
    if config["task"] == "autoencoding":
        return autoencoding(Codec(network, **codec(config), image=data.image), config["losses"], perceptual, seed)
    label_dropout = config["network"].get("label_dropout", 0.0)
    return Diffusion(network, build_process(config["process"]), label_dropout, make_view(config["train"]))


def make_view(train: dict) -> View | None:
    """What is done to training images in pixels."""
    if train["augment"]:
        return partial(augment.edm, p=train["augment"]["p"])
    return (lambda x, draws: (augment.random_flip(x, draws), None)) if train["flip"] else None


def network_shape(config: dict, data: Data) -> dict[str, int]:
    classes = len(data.images["classes"])
    if config["task"] == "autoencoding":
        return {}
    told = config["task"] == "classification" or (config["network"].get("conditional") and classes)
    shape = {"classes": classes if told else 0, "augment": augment_label(config, data)}
    return {"image_channels": data.shape[0], **{name: count for name, count in shape.items() if count}}


def augment_label(config: dict, data: Data) -> int:
    """The length of what the network is told of an image's augmentation; 0 where it is not, or there is none."""
    if not config["network"].get("augment"):
        return 0
    if data.latents:
        told = len(data.latents.views["train"]) > 1 and not config["latents"]["imported"]
        return views.LABEL_DIM if told else 0
    return augment.LABEL_DIM if config["train"]["augment"] else 0


def codec(config: dict) -> dict:
    return {"size": config["size"], "channels": config["network"]["channels"], "resize": config["resize"]}


def make_options(job: Job) -> Options:
    train, gpu = job.config["train"], job.device.type == "cuda"
    same = {key: train[key] for key in ("batch", "lr", "seed", "optimizer", "weight_decay", "averages", "clip")}
    return Options(
        **same,
        betas=(train["beta1"], train["beta2"]),
        warmup=1000 * train["warmup_kimg"],
        cosine=train["cosine_kimg"] and 1000 * train["cosine_kimg"],
        bf16=train["precision"] == "bf16" or (train["precision"] == "auto" and gpu),
        device_batch=int(job.options.get("device_batch", 0)) or None,
    )


def work(config: dict, data: Data, shape: dict, images: int) -> float:
    """The FLOPs of training a diffusion model on so many images."""
    more = {name: count for name, count in shape.items() if name != "image_channels"}
    return images * training_flops(*on_meta(config["network"], data.shape, **more))


def make_perceptual(job: Job) -> LPIPS | None:
    """LPIPS where it is asked for; where its weights are not to be had, a line that says so."""
    if job.config["task"] != "autoencoding" or not job.config["losses"]["perceptual"]:
        return None
    file, missing = available(job.optional("vgg"), download=True)
    if file is None:
        job.say(missing)
    return LPIPS(file).to(job.device, memory_format=torch.channels_last) if file else None


def lpips_of(config: dict, perceptual: LPIPS | None) -> dict[str, str]:
    """What tells the LPIPS that a run is trained by: a run that began without it is not gone on with, nor with others;
    nothing where it is not asked for.
    """
    asked = config["task"] == "autoencoding" and config["losses"]["perceptual"]
    return {"lpips": perceptual.sha256 if perceptual else "absent"} if asked else {}


def make_slice(job: Job, data: Data, **more: str) -> Slice:
    before = job.inputs.get("before")
    return Slice(
        run=job.output("ema").parents[2],
        kimg=int(job.options["kimg"]),
        start=int(job.options["start"]),
        stop=int(job.options["stop"]),
        identity=digest({"config": job.config, "content": data.content, **data.header, **more}),
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
    world = World.join(device)
    data = open_data(job)
    perceptual = make_perceptual(job)
    lpips = lpips_of(config, perceptual)
    part, opts, shape = make_slice(job, data, **lpips), make_options(job), network_shape(config, data)
    task = make_task(config, data, shape, opts.seed, perceptual)
    for module in modules(task):
        module.to(device, memory_format=torch.channels_last)
        refuse_batch_statistics(module, opts, world)
    if isinstance(task, Diffusion) and device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        # Of the whole slice, not of what is left of it, so that a stop changes nothing.
        ahead = work(config, data, shape, (part.stop - part.start) * opts.batch // world.size)
        task.network = compiled(task.module, device, ahead, job.options["compile"])
    stream = make_stream(job, data, opts, world)
    events = Events(part.run / "tensorboard" if job.options.get("tensorboard") == "True" else None)
    begun = []

    def report(state: State) -> None:
        if not begun:
            begun.append(state.step)
            job.progress.start(part.stop * opts.batch, "images", state.step * opts.batch)
            print(f"training {part.run} from step {state.step} to {part.stop}, {world.size} processes", file=job.log)
        last = f"loss {state.history[-1]['loss']:.4f}" if state.history else ""
        job.progress.update(state.step * opts.batch, last)

    waiting = f"waits: another process ({{}}) still trains in {part.run}; it goes on when that one ends"
    lock = exclusive(part.run / "scratch" / "lock", lambda owner: job.say(waiting.format(owner)))
    with lock if world.writes else nullcontext():
        state = fresh(task, opts)
        autosave = float(job.options["autosave"])
        rows = run_slice(part, task, stream, opts, state, autosave, report, world, events)
        if world.writes:
            seen = state.step * opts.batch
            head = header(config, data, shape, part, seen)
            averages = {name: ema.module.state_dict() for name, ema in state.emas.items()}
            checkpoints.write(job.output("raw"), {"raw": state.module.state_dict()}, head)
            checkpoints.write(job.output("ema"), averages, head)
            write_jsonl(job.output("stats"), rows)
            speed = {"images_per_second": round(job.progress.rate, 1), "processes": world.size}
            job.write_receipt(images=seen, from_step=begun[0], to_step=part.stop, **speed, **lpips)
            tidy(part, job.options["keep"])
    world.leave()


if __name__ == "__main__":
    run(main)
