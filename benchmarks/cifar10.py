"""Trains a recipe of config/ddae.yaml on CIFAR-10's training images for a given time, samples and measures.

    python -m benchmarks.cifar10 a.zip b.zip --out results/DDPM --seconds 300
    python -m benchmarks.cifar10 a.zip b.zip --out results/DDPM --seconds 300 --weights FILE --images 2000
    python -m benchmarks.cifar10 a.zip b.zip --out results/tiny --seconds 60 --set network.channels=32 train.batch=16

The same command again continues from the state in --out; --seconds 0 only samples. The zips (lossless WebP or PNG) are
decoded once, into .npy files beside --out, which also serve once a zip is deleted; with --decode alone, zips can be
copied to a machine one by one. In --out:

    state.safetensors   the training state
    loss.jsonl, loss.png
    samples-KIMG.png    a grid of samples, always from the same noise
    figures.jsonl       a line for each call: images seen, loss, images per second, with --weights the distance

The distance is between Inception's 768 features of the samples and of the images, so it is no FID.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from PIL import Image

from benchmarks.recipes import Recipe, as_model, assemble, changed, device, device_name, recipes, sampler_of, work
from diffprobe.evaluation.sampling import draw, evaluations
from diffprobe.networks.compiled import compiled, is_worthwhile
from diffprobe.reporting.mosaics import grid
from diffprobe.runtime.files import atomic, digest, write_jsonl
from diffprobe.training import state as states
from diffprobe.training.loop import fresh, train
from diffprobe.training.optimizers import Options
from diffprobe.training.state import State
from diffprobe.training.stream import Stream
from diffprobe.training.tasks.diffusion import Diffusion

SHOWN = 64  # samples in the grid
SAVE_SECONDS = 120.0
DIMS = 768


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a recipe on CIFAR-10, samples, measures.")
    parser.add_argument("zips", type=Path, nargs="+", help="zips of images, in order")
    parser.add_argument("--recipe", default="DDPM_ddpm")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=300, help="of training, compiling included")
    parser.add_argument("--decode", action="store_true", help="only decode the zips")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="such as network.channels=32")
    parser.add_argument("--sampler", default="published", help="of the recipe")
    parser.add_argument("--average", help="that draws (default: the sampler's)")
    parser.add_argument("--images", type=int, default=SHOWN, help="samples to draw, for the distance too")
    parser.add_argument("--weights", help="Inception's; without them no distance")
    parser.add_argument("--reference", type=int, help="images that the samples are compared with (default: all)")
    parser.add_argument("--plan", type=Path, help="recipes as throughput.py wrote them")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    images = cifar10(arguments.zips, arguments.out.parent)
    if arguments.decode:
        return
    recipe, where = changed(recipes(arguments.plan)[arguments.recipe], arguments.set), device()
    task, options, shape = assemble(recipe, where)
    state = fresh(task, options)
    stream = Stream(torch.from_numpy(images), torch.zeros(len(images), dtype=torch.int64), options.seed, where)
    progress = trained(arguments, recipe, task, options, state, stream, work(recipe, shape)[0])
    drawn = samples(arguments, recipe, state, shape, where)
    kimg = round(state.step * options.batch / 1000)
    grid(drawn[:SHOWN], 8, SHOWN // 8, 4).save(arguments.out / f"samples-{kimg}.png")
    row = {"recipe": arguments.recipe, "set": arguments.set, "device": device_name(where), **progress}
    row |= {"sampler": arguments.sampler, "images_drawn": len(drawn)}
    if arguments.weights:
        row |= distance(arguments, drawn, images, where)
    with (arguments.out / "figures.jsonl").open("a") as file:
        print(json.dumps(row), file=file)
    print(json.dumps(row))


# --- images -------------------------------------------------------------------------------------------------


def cifar10(zips: list[Path], cache: Path) -> np.ndarray:
    """All images of the zips, uint8 (N, H, W, C), from the cache where an earlier call has decoded them."""
    parts = []
    for path in zips:
        file = cache / f"{path.stem}.npy"
        if not file.exists() and path.exists():
            with atomic(file) as partial:
                np.save(partial, decoded(path))
        if not file.exists():
            sys.exit(f"{path}: no such file, and no {file} of an earlier call")
        parts.append(np.load(file))
    return np.concatenate(parts)


def decoded(path: Path) -> np.ndarray:
    with ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if not name.endswith((".json", "/")))
        return np.stack([np.asarray(Image.open(archive.open(name)).convert("RGB")) for name in names])


# --- training -----------------------------------------------------------------------------------------------


def trained(
    arguments: argparse.Namespace,
    recipe: Recipe,
    task: Diffusion,
    options: Options,
    state: State,
    stream: Stream,
    flops: float,
) -> dict:
    """Train the state for the given time, continuing an earlier call; the row's entries about it."""
    where, path = stream.device, arguments.out / "state.safetensors"
    lasting = {key: value for key, value in recipe["train"].items() if key not in ("checkpoints", "compile")}
    tags = {"identity": digest([recipe["network"], recipe["process"], lasting, len(stream.images)])}
    if saved_tags := states.peek(path):
        if saved_tags["identity"] != tags["identity"]:
            sys.exit(f"{path}: is of another recipe or other images; give another --out")
        states.restore(path, state)
    print(f"from step {state.step}, {state.step * options.batch / 1e6:.2f} M images", flush=True)
    # Compiled where a job of this length would be; a large GPU does more than 8e13 FLOPs a second.
    how = recipe["train"]["compile"]
    worthwhile = is_worthwhile(where, arguments.seconds * 8e13, how)
    task.compile(where, 0, "always" if worthwhile and how == "auto" else how if worthwhile else "never")
    last = -(-1000 * recipe["train"]["checkpoints"][-1] // options.batch)
    begun = saved = steady = time.perf_counter()
    first = steady_step = state.step
    while state.step < last and (now := time.perf_counter()) - begun < arguments.seconds:
        if now - saved > SAVE_SECONDS:
            states.save(path, state, tags)
            saved = now
        train(task, stream, options, state, min(last, state.step + options.tick), lambda _: None)
        if steady_step == first:  # the first steps compile
            steady, steady_step = time.perf_counter(), state.step
    seconds, steady_seconds = time.perf_counter() - begun, time.perf_counter() - steady
    if state.step == steady_step:  # there were no other steps
        steady_seconds, steady_step = seconds, first
    rate = (state.step - steady_step) * options.batch / max(steady_seconds, 1e-9)
    if state.step > first:
        states.save(path, state, tags)
    write_jsonl(arguments.out / "loss.jsonl", state.history)
    plot(state.history, arguments.out / "loss.png")
    losses = [row["loss"] for row in state.history[-50:]]
    entries = {"step": state.step, "images": state.step * options.batch, "seconds": round(seconds, 1)}
    entries |= {"images_per_second": round(rate, 1), "tflops": round(rate * flops / 1e12, 3)}
    return entries | {"loss": round(sum(losses) / max(len(losses), 1), 5)}


def plot(rows: list[dict], path: Path) -> None:
    """The loss over images, raw and smoothed."""
    from matplotlib.figure import Figure

    if not rows:
        return
    images, loss = (np.array([row[key] for row in rows], dtype=float) for key in ("images", "loss"))
    width = max(1, len(loss) // 50)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="million images", ylabel="loss")
    axes.plot(images / 1e6, loss, lw=0.5, alpha=0.4)
    axes.plot(images[width - 1 :] / 1e6, np.convolve(loss, np.ones(width) / width, "valid"))
    axes.set_ylim(loss.min(), np.quantile(loss, 0.98) * 1.05)
    figure.savefig(path, dpi=110)


# --- samples ------------------------------------------------------------------------------------------------


def samples(
    arguments: argparse.Namespace, recipe: Recipe, state: State, shape: dict[str, int], where: torch.device
) -> np.ndarray:
    """The samples 0, 1, .. of the recipe's sampler and average, uint8 (N, H, W, C)."""
    sampler = sampler_of(recipe, arguments.sampler)
    network = state.emas[arguments.average or sampler.settings.weights].module
    each = work(recipe, shape)[1] * evaluations(sampler)
    model = as_model(recipe, compiled(network, where, each * arguments.images), shape)
    rows = torch.arange(max(arguments.images, SHOWN), device=where).split(256)
    return torch.cat([draw(model, sampler, part, 0).cpu() for part in rows]).numpy()


def distance(arguments: argparse.Namespace, drawn: np.ndarray, images: np.ndarray, where: torch.device) -> dict:
    """The Fréchet distance between samples and images, in Inception's 768 features."""
    from diffprobe.config.extractors.inception import InceptionExtractor
    from diffprobe.evaluation.generation import extractors
    from diffprobe.evaluation.generation.frechet import frechet_distance
    from diffprobe.evaluation.generation.moments import Moments

    extractor = extractors.make(InceptionExtractor(kind="inception", dims=DIMS), arguments.weights, where)

    def moments(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sums = Moments(extractor.dim)
        for start in range(0, len(part), 256):
            sums.update(extractor.apply(torch.from_numpy(part[start : start + 256]).to(where)).pooled)
        return sums.mu, sums.sigma

    reference = images if arguments.reference is None else images[: arguments.reference]
    path = arguments.out.parent / f"reference-{digest([len(reference), extractor.identity])[:12]}.npz"
    if not path.exists():
        mu, sigma = moments(reference)
        with atomic(path) as partial:
            np.savez(partial, mu=mu, sigma=sigma)
    statistics = np.load(path)
    value = frechet_distance(*moments(drawn), statistics["mu"], statistics["sigma"])
    return {f"fd_{extractor.name}": round(value, 4), "reference": len(reference)}


if __name__ == "__main__":
    main()
