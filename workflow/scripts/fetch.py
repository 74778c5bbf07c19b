"""Keep a remote file that Snakemake's storage plugin has brought, once its content is what the config says.

Config: `plan.arguments.FetchArgument`. Input: arrived, which Snakemake removes later. Output: file. Option: address.
"""

from diffprobe.runtime.job import Job, run

from diffprobe.data.downloads import keep
from diffprobe.plan.arguments import FetchArgument


def main(job: Job) -> None:
    keep(
        job.input("arrived"),
        job.output("file"),
        FetchArgument.model_validate(job.config).sha256,
        job.options["address"],
    )
    job.write_receipt(address=job.options["address"])


if __name__ == "__main__":
    run(main)
