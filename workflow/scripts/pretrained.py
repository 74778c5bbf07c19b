"""Convert a published autoencoder to a checkpoint.

Config: `config.autoencoders.Pretrained`, and state, a fingerprint of local folders. Option: name, its config key.
"""

from diffprobe.runtime.job import Job, run

from diffprobe.config.autoencoders import Pretrained
from diffprobe.interop.autoencoders import write


def main(job: Job) -> None:
    entry = Pretrained.model_validate({key: value for key, value in job.config.items() if key != "state"})
    job.write_receipt(**write(job.options["name"], entry, job.output("weights"), job.say))


if __name__ == "__main__":
    run(main)
