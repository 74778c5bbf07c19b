"""One slice of a training run: from the checkpoint before (or nothing) to the next."""

import torch

from diffprobe.data import images
from diffprobe.diffusion.edm import EDM
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
from diffprobe.training.tasks import Classification, Diffusion, Task


def make_task(config: dict, shape: dict, seed: int) -> Task:
    torch.manual_seed(torch_seed(Key(seed, "weights"), 0))
    network = build(config["network"], **shape)
    if config["task"] == "classification":
        return Classification(network)
    return Diffusion(network, EDM.of(config["process"]))


def options(train: dict) -> Options:
    return Options(
        batch=train["batch"],
        lr=train["lr"],
        seed=train["seed"],
        warmup=1000 * train["warmup_kimg"],
        ema_half_life=1000 * train["ema_kimg"],
        ema_ramp=train["ema_ramp"],
        clip=train["clip"],
    )


def make_slice(job: Job, store: dict) -> Slice:
    before = job.inputs.get("before")
    return Slice(
        run=job.output("ema").parents[2],
        kimg=int(job.options["kimg"]),
        start=int(job.options["start"]),
        stop=int(job.options["stop"]),
        identity=digest({"config": job.config, "content": store["content"]}),
        code=digest(code_version()),
        parent=sha256(before) if before else "",
    )


def main(job: Job) -> None:
    device = job.device
    store = images.describe(job.input("images"))
    part, opts = make_slice(job, store), options(job.config["train"])
    shape = {"image_channels": store["channels"]}
    if job.config["task"] == "classification":
        shape["classes"] = len(store["classes"])
    task = make_task(job.config, shape, opts.seed)
    task.module.to(device, memory_format=torch.channels_last)
    data = images.read(job.input("images"), job.config["train"]["splits"])
    stream = Stream(torch.from_numpy(data.images), torch.from_numpy(data.labels), opts.batch, opts.seed, device)
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
        head = {"network": job.config["network"], "process": job.config.get("process"), "shape": shape}
        head |= {
            "image": [store["channels"], store["size"], store["size"]],
            "images": seen,
            "identity": part.identity,
        }
        checkpoints.write(job.output("raw"), state.module, head | {"weights": "raw"})
        checkpoints.write(job.output("ema"), state.ema.module, head | {"weights": "ema"})
        write_jsonl(job.output("stats"), rows)
        job.write_receipt(
            images=seen, from_step=begun[0], to_step=part.stop, images_per_second=round(job.progress.rate, 1)
        )
        tidy(part, job.options["keep"])


if __name__ == "__main__":
    run(main)
