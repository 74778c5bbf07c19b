"""A published autoencoder as a checkpoint. Config: its entry in the config. Options: name, what the config calls it."""

from diffprobe.interop.autoencoders import write
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    job.write_receipt(**write(job.options["name"], job.config, job.output("weights"), job.say))


if __name__ == "__main__":
    run(main)
