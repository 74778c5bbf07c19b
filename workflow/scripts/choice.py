"""The choice of an experiment: the checkpoint, layer and level with the best accuracy on `select`."""

from diffprobe.runtime.files import read_json, write_json
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    choices = [read_json(path)["choice"] for path in job.group("select")]
    ranked = sorted(choices, key=lambda choice: (-choice["accuracy"], choice["nll"]))
    # The runner-up is the best cell besides the choice, of the same checkpoint or another.
    others = [*ranked[1:], ranked[0]["runner_up"] | {"kimg": ranked[0]["kimg"]}]
    runner_up = min(others, key=lambda choice: (-choice["accuracy"], choice["nll"]))
    best = ranked[0] | {"runner_up": {key: value for key, value in runner_up.items() if key != "runner_up"}}
    write_json(job.output("choice"), best)
    job.write_receipt()


if __name__ == "__main__":
    run(main)
