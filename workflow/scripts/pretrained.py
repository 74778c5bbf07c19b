"""A published autoencoder as a checkpoint. Config: its entry in the config, and state, which tells when its folder
changes. Options: name, what the config calls it.
"""

from diffprobe.config.autoencoders import Pretrained
from diffprobe.interop.autoencoders import write
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    entry = Pretrained.model_validate({key: value for key, value in job.config.items() if key != "state"})
    job.write_receipt(**write(job.options["name"], entry, job.output("weights"), job.say))


if __name__ == "__main__":
    run(main)
