"""Features of every tap at every level of one checkpoint, on `train` and `select`, into a zarr store."""

import zarr

from diffprobe.data import images
from diffprobe.evaluation import model
from diffprobe.evaluation.features import create, extract
from diffprobe.runtime.files import atomic
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    device, config = job.device, job.config
    network, process, _ = model.load(job.input("ema"), device)
    data = {split: images.read(job.input("images"), [split]) for split in ("train", "select")}
    passes = len(config["levels"]) * config["draws"]
    job.progress.start(passes * sum(len(part.rows) for part in data.values()), "images")
    done = 0
    with atomic(job.output("store").parent) as store:
        for level in map(process.level, config["levels"]):
            for split, part in data.items():
                arrays: dict[str, zarr.Array] = {}
                for draw in range(config["draws"]):
                    for rows, found in extract(
                        network,
                        process,
                        part,
                        level,
                        config["taps"],
                        config["noise_seed"],
                        draw,
                        config["batch"],
                        device,
                    ):
                        for tap, values in found.items():
                            if tap not in arrays:
                                shape = (config["draws"], len(part.rows), values.shape[1])
                                arrays[tap] = create(store, level.name, split, tap, shape)
                            arrays[tap][draw, rows] = values.half().cpu().numpy()
                        done += rows.stop - rows.start
                        job.progress.update(done, f"sigma {level.name}")
        levels = {
            level.name: {"sigma": level.sigma, "log_snr": level.log_snr}
            for level in map(process.level, config["levels"])
        }
        zarr.create_group(str(store), attributes={"levels": levels, "taps": config["taps"], "config": config})
    job.write_receipt(images=done, images_per_second=round(job.progress.rate, 1))


if __name__ == "__main__":
    run(main)
