"""Every byte of finished stores against what was written. Inputs: store.N, the marks of any kind of store."""

from diffprobe.reporting.verify import verify_paths
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    stores = job.group("store")
    verify_paths(stores, repair=False)
    job.say(f"{len(stores)} stores are whole")


if __name__ == "__main__":
    run(main)
