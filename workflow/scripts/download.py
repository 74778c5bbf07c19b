"""Download and verify the public archives of one kind of source.

Config: `plan.arguments.DownloadArgument`. Output: archives, a mark beside the files. Option: mirror.
"""

from diffprobe.runtime.job import Job, run

from diffprobe.config.sources import Source
from diffprobe.data.downloads import fetch
from diffprobe.plan.arguments import DownloadArgument
from diffprobe.runtime.files import sha256, write_json


def main(job: Job) -> None:
    kind, mark = DownloadArgument.model_validate(job.config).kind, job.output("archives")
    archives = Source.members[kind].archives
    job.progress.start(sum(archive.bytes for archive in archives), "bytes")
    before = 0
    for archive in archives:

        def report(done: int, before: int = before) -> None:
            job.progress.update(before + done)

        fetch(archive, mark.parent / archive.name, job.options.get("mirror"), report)
        before += archive.bytes
    files = {archive.name: sha256(mark.parent / archive.name) for archive in archives}  # of several, where repacked
    write_json(mark, files)
    job.write_receipt(files=files)


if __name__ == "__main__":
    run(main)
