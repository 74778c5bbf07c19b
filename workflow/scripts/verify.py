"""Verify every chunk of finished stores against its checksum. Inputs: store.N, the marks of stores of any kind."""

from diffprobe.runtime.job import Job, run

from diffprobe.reporting.verify import verify_paths


def main(job: Job) -> None:
    stores = job.group("store")
    verify_paths(stores, repair=False)
    job.say(f"{len(stores)} stores are intact")


if __name__ == "__main__":
    run(main)
