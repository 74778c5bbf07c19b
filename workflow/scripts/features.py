"""Features of every tap at every level of one checkpoint, on `train` and `select`, into a zarr store."""

import hashlib

import zarr

from diffprobe.evaluation import model
from diffprobe.evaluation.features import extract, write
from diffprobe.evaluation.inputs import open_inputs
from diffprobe.runtime.files import atomic
from diffprobe.runtime.job import Job, run
from diffprobe.runtime.keyed import Key


def main(job: Job) -> None:
    device, config = job.device, job.config
    trained = model.load(job.input("weights"), device, weights=config["weights"]["name"])
    network, process = trained.network, trained.process
    data = open_inputs(job.input("data"), ["train", "select"], device, trained.latents)
    posterior = Key(config["noise_seed"], "features/posterior")
    levels = [process.level(sigma) for sigma in config["levels"]]
    job.progress.start(len(levels) * config["draws"] * sum(len(part.rows) for part in data.values()), "images")
    content = hashlib.sha256()
    with atomic(job.output("store").parent) as store:
        for level in levels:
            key = Key(config["noise_seed"], f"features/{level.name}")
            for split, part in data.items():
                for draw in range(config["draws"]):
                    options = {"posterior": posterior, "draw": draw, "batch": config["batch"], "device": device}
                    for rows, found in extract(network, process, part, level, config["taps"], key, **options):
                        shape = (config["draws"], len(part.rows))
                        content.update(write(store, level.name, split, found, shape, draw, rows))
                        job.progress.update(job.progress.done + rows.stop - rows.start, f"sigma {level.name}")
        # The hash makes this file, all that Snakemake sees of the store, differ whenever the features do.
        marks = {"levels": {level.name: {"sigma": level.ratio, "log_snr": level.log_snr} for level in levels}}
        marks |= {"taps": config["taps"], "config": config, "content": content.hexdigest()}
        zarr.create_group(str(store), attributes=marks)
    job.write_receipt(images=job.progress.done, images_per_second=round(job.progress.rate, 1))


if __name__ == "__main__":
    run(main)
