"""Export samples for other tools. Output: npz, for ADM's evaluation suite, or png, a folder."""

from diffprobe.runtime.job import Job, run

from diffprobe.data import export
from diffprobe.data.imagesets import open_images


def main(job: Job) -> None:
    images = open_images(job.input("samples"))
    if "npz" in job.outputs:
        export.to_npz(images, job.output("npz"))
    else:
        export.to_png(images, job.output("png"))


if __name__ == "__main__":
    run(main)
