"""One slice of a training run: from the checkpoint before (or nothing) to the next, whatever the task.

The argument is one of plan/training_argument.py. Inputs: images; latents and autoencoder where the network sees
latents; before, the checkpoint before; initial, the weights to begin with, if not fresh ones; and files of the task's
own, such as vgg, weights for LPIPS.
"""

import json
from contextlib import nullcontext

from diffprobe.runtime.job import Job, run

from diffprobe.config.trackers import Tracker
from diffprobe.latents.identity import expected_identity
from diffprobe.latents.settings import source_settings
from diffprobe.plan.training_argument import TrainingArgument, parse_argument
from diffprobe.runtime.code_hashes import code_version
from diffprobe.runtime.devices import peak_flops, report_slow_precision
from diffprobe.runtime.files import digest, sha256, write_jsonl
from diffprobe.runtime.located import located
from diffprobe.runtime.locks import exclusive
from diffprobe.training import checkpoints
from diffprobe.training.data import Data, open_data
from diffprobe.training.events import Events
from diffprobe.training.initial import begin_with
from diffprobe.training.latentstream import Budget
from diffprobe.training.loop import fresh, prepare
from diffprobe.training.optimizers import Options
from diffprobe.training.slices import Slice, run_slice, tidy
from diffprobe.training.state import State
from diffprobe.training.tasks.base import Task
from diffprobe.training.trackers import trackings
from diffprobe.training.world import World


def main(job: Job) -> None:
    job.needs_float64 = False
    files, world = {name: job.input(name) for name in job.inputs}, World.join(job.device)
    argument = parse_argument(job.config).decided(files)
    latents = None
    if argument.latents:
        latents = expected_identity(source_settings(argument.latents), files["images"], files["autoencoder"])
    data = open_data(files, latents)
    device_batch = int(job.options.get("device_batch", 0)) or None
    report_slow_precision(argument.train.precision, job.device, job.say)
    task: Task = located(argument.build)(argument, data, job.device, job.say)  # networks with fresh weights
    if "initial" in job.inputs:
        begin_with(job.input("initial"), task.module, {"network": job.config["network"], **argument.described})
    options = Options.of(argument.train, job.device, task.module, device_batch)
    part = make_slice(job, data, task)
    prepare(task, job.device, options, world)
    # By the images of the whole slice, not of what is left of it, so that a stop changes nothing.
    images = (part.stop - part.start) * options.batch // world.size
    if job.options.get("recompute") == "True":
        for module in task.module.modules():
            if hasattr(module, "recompute"):
                module.recompute = True
    task.compile(job.device, images, job.options.get("compile", "never"))
    device_bytes, host_bytes = (float(gib) * 2**30 for gib in job.options.get("memory", "0/0").split("/"))
    if job.options.get("compile") in ("always", "graphs") and job.device.type == "cpu":
        job.say("train.compile: no effect on a CPU; networks are compiled on GPUs alone")
    budget = Budget(device_bytes, host_bytes, job.options.get("mapped", "checked"))
    stream = data.stream(argument.train, job.device, world, budget, lambda line: print(line, file=job.log))
    events = Events(part.run / "tensorboard" if job.options.get("tensorboard") == "True" else None)
    kinds = [Tracker.member(kind) for kind in json.loads(job.options.get("trackers", "[]"))]
    trackers = trackings(kinds, job.options.get("run_name", ""), part.run, part.identity, job.config, job.say)
    first_steps: list[int] = []

    def report(state: State) -> None:
        if not first_steps:
            first_steps.append(state.step)
            job.progress.compare(task.image_flops, lambda: world.size * peak_flops(job.device, options.bf16))
            job.progress.start(part.stop * options.batch, "images", state.step * options.batch)
            print(f"training {part.run} from step {state.step} to {part.stop}, {world.size} processes", file=job.log)
        last = f"loss {state.history[-1]['loss']:.4f}" if state.history else ""
        job.progress.update(state.step * options.batch, last)

    waiting = f"waits: another process ({{}}) still trains in {part.run}; it goes on when that one ends"
    lock = exclusive(part.run / "scratch" / "lock", lambda owner: job.say(waiting.format(owner)))
    # The first process holds the lock for all; the others wait for it in `run_slice`.
    with lock if world.writes else nullcontext():
        state = fresh(task, options)
        sinks = [events, *trackers]
        try:
            rows = run_slice(part, task, stream, options, state, float(job.options["autosave"]), report, world, sinks)
        finally:
            for tracker in trackers:
                tracker.finish()
        if world.writes:
            images = state.step * options.batch
            write(job, argument, data, task, part, state, images)
            write_jsonl(job.output("stats"), rows)
            speed = {"images_per_second": round(job.progress.rate, 1), "processes": world.size}
            speed |= {"nodes": world.nodes} if world.nodes > 1 else {}
            job.write_receipt(images=images, from_step=first_steps[0], to_step=part.stop, **speed, **task.identity)
            tidy(part, job.options["keep"])  # last: until the outputs are written, the autosave is what a stop leaves
    world.leave()


def make_slice(job: Job, data: Data, task: Task) -> Slice:
    """Call it once the task is built: its modules are part of the code's version."""
    before = job.optional("before")
    # Without kimg, devices and the like: what changes no result must not retrain. Of the checkpoints that fine-tuning
    # may begin with, the one that it does is part of the task's identity.
    config = {key: value for key, value in job.config.items() if key != "checkpoints"}
    facts = {"config": config, "content": data.content, **data.header}
    if initial := job.optional("initial"):
        facts["initial"] = sha256(initial)
    # As older code had them: with all checkpoints, and without the range of the pixels that latents are of.
    latents = {key: value for key, value in data.header.get("latents", {}).items() if key != "normalise"}
    older = {**facts, "config": job.config} | ({"latents": latents} if latents else {})
    return Slice(
        run=job.output("ema").parents[2],
        kimg=int(job.options["kimg"]),
        start=int(job.options["start"]),
        stop=int(job.options["stop"]),
        identity=digest({**facts, **task.identity}),
        code=digest(code_version()),
        parent=sha256(before) if before else "",
        before=before,
        also=(digest({**older, **task.identity}),),
        superseded=tuple(digest({**older, **identity}) for identity in task.superseded),
    )


def write(job: Job, argument: TrainingArgument, data: Data, task: Task, part: Slice, state: State, images: int) -> None:
    """The checkpoint: its averages in one file, the weights themselves in another, with the same header."""
    model = {"network": job.config["network"], "process": job.config.get("process"), "shape": task.shape}
    model |= argument.described
    header = {**model, "image": data.shape, "images": images, "identity": part.identity, **task.header(), **data.header}
    averages = {name: ema.module.state_dict() for name, ema in state.emas.items()}
    checkpoints.write(job.output("raw"), {"raw": state.module.state_dict()}, header)
    checkpoints.write(job.output("ema"), averages, header)


if __name__ == "__main__":
    run(main)
