"""Kill jobs of every rule, spread over a whole run in pixels and in latents, and compare with an undisturbed run.

    python tests/kill_every_rule.py FOLDER --kills 30      the tests' tiny demo, in FOLDER/undisturbed and FOLDER/killed

Each kill is a SIGKILL: of a job, of Snakemake with all of its group, or of Snakemake alone, whose jobs live on. After
each the plain command is given again and nothing is cleaned by hand. Where the command ends before all kills have come,
rules that were not hit are made to run once more. Some minutes; not in `make test`.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
from kills import hashes, jobs_of, kill, run, start
from toy_workflow import TINY, project_with

KINDS = ("job", "group", "snakemake")
ROUNDS = 5  # of rules that run once more: a job of a tenth of a second can slip by each time
POLL = 0.1  # seconds: a look at all processes of the machine takes a hundredth
# Of how it was made, not of what was made: a killed run waits and saves where another does not.
RECORDS = ("logs/", "benchmarks/")


def durations(project: Path) -> dict[str, list[float]]:
    """How long the jobs of each rule took, in seconds, by Snakemake's benchmarks."""
    took: dict[str, list[float]] = {}
    for path in (project / "results" / "benchmarks").glob("*/*.jsonl"):
        took.setdefault(path.parent.name, []).append(json.loads(path.read_text())["s"])
    return took


def quotas(jobs: dict[str, int], kills: int) -> Counter[str]:
    """How often each rule is hit: all once, as far as the kills reach, then those with the most jobs more often."""
    hits: Counter[str] = Counter()
    while hits.total() < kills and any(jobs[rule] > hits[rule] for rule in jobs):
        for rule in sorted(jobs, key=lambda rule: -jobs[rule]):
            if hits.total() < kills and jobs[rule] > hits[rule]:
                hits[rule] += 1
    return hits


def rule_of(job: psutil.Process) -> str:
    line = job.info["cmdline"]
    return Path(line[line.index("--log") + 1]).parent.name


def target(project: Path, left: Counter[str], anywhere: int, jobs: dict[str, int]) -> psutil.Process | None:
    """A running job whose rule is still to be hit, of the rule with the fewest jobs, whose chance may not come again;
    any job where kills missed their own.
    """
    running = [job for job in jobs_of(project) if "--log" in job.info["cmdline"]]
    wanted = [job for job in running if left[rule_of(job)] > 0 or anywhere > 0]
    return min(wanted, key=lambda job: (left[rule_of(job)] <= 0, jobs[rule_of(job)]), default=None)


def disturbed(project: Path, took: dict[str, list[float]], kills: int, whole: dict[str, str]) -> Counter[str]:
    """Give the plain command again and again, killing it on the way. Returns how often each rule was hit."""
    chance, hit = random.Random(0), Counter[str]()
    jobs = {rule: len(each) for rule, each in took.items()}
    left, anywhere = quotas(jobs, kills), 0
    forced: list[str] = []  # rules that run once more, though their outputs stand
    rounds = 0
    while hit.total() < kills:
        made = {} if forced else durations(project)
        for rule in [rule for rule in left if len(made.get(rule, ())) == jobs[rule]]:
            # Its jobs were over before a kill came to them: others are killed in their place.
            anywhere += left.pop(rule)
        process, terminal = start(project, *(["--forcerun", *forced] if forced else []))
        forced = []
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and hit.total() < kills:
            if (job := target(project, left, anywhere, jobs)) is None:
                time.sleep(POLL)
                continue
            rule = rule_of(job)
            wait = chance.uniform(0, 0.5 * min(took[rule]))
            ended, _ = psutil.wait_procs([job], timeout=wait)
            if ended:  # faster than in the undisturbed run
                print(f"missed {rule}, which ended within {wait:.2f} s", flush=True)
                anywhere += left[rule] > 0  # another job is killed in its place
                left[rule] = max(0, left[rule] - 1)
                continue
            kind = KINDS[hit.total() % len(KINDS)]
            others = sorted({rule_of(other) for other in jobs_of(project) if "--log" in other.info["cmdline"]} - {rule})
            kill(kind, process, [job], terminal)
            anywhere -= left[rule] <= 0
            left[rule] = max(0, left[rule] - 1)
            hit[rule] += 1
            beside = f", beside {', '.join(others)}" if others else ""
            print(f"kill {hit.total()}: {kind}, in {rule} after {wait:.2f} s{beside}", flush=True)
            if kind != "job":  # else Snakemake waits for its other jobs; if the job was an orphan, it goes on
                break
        status = process.wait()
        os.close(terminal)
        half = [name for name, content in hashes(project).items() if whole.get(name) != content]
        if half:
            print(f"half-written or different after this kill: {', '.join(half)}", flush=True)
            return Counter()
        if status == 0 and hit.total() < kills:
            rounds += 1
            if rounds > ROUNDS:
                break
            forced = sorted(jobs.keys() - hit.keys()) or sorted(jobs)
            left = Counter(forced[: kills - hit.total()])
            anywhere = kills - hit.total() - left.total()
            print(f"the work is done; once more: {', '.join(forced)}", flush=True)
    return hit


def names(project: Path) -> set[str]:
    """The files of the results, without records."""
    files = (path.relative_to(project / "results") for path in (project / "results").rglob("*") if path.is_file())
    return {str(file) for file in files if not str(file).startswith(RECORDS)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    undisturbed, killed = project_with(folder / "undisturbed", TINY), project_with(folder / "killed", TINY)
    begun = time.time()
    print(f"undisturbed: exit status {run(undisturbed).returncode}, {time.time() - begun:.0f} s", flush=True)
    whole, took = hashes(undisturbed), durations(undisturbed)
    hit = disturbed(killed, took, arguments.kills, whole)
    last = run(killed)
    print(f"the plain command at the end: exit status {last.returncode}")
    after = hashes(killed)
    different = [name for name in whole.keys() | after.keys() if whole.get(name) != after.get(name)]
    left = sorted(names(killed) ^ names(undisturbed))
    again = run(killed)
    idle = "Nothing to be done" in again.stdout + again.stderr
    verify = subprocess.run(
        [sys.executable, "-m", "diffprobe", "verify"], cwd=killed, capture_output=True, text=True, check=False
    )
    missed = ", ".join(sorted(took.keys() - hit)) or "none"
    print(f"{hit.total()} kills in jobs of {len(hit)} of {len(took)} rules; not hit: {missed}")
    print(f"{len(whole)} files compared, differing: {', '.join(different) or 'none'}")
    print(f"{len(names(undisturbed))} names of files compared, in one of the two alone: {', '.join(left) or 'none'}")
    print(f"a further command: {'nothing to be done' if idle else again.stderr}")
    print(f"diffprobe verify: exit status {verify.returncode}; {time.time() - begun:.0f} s in all")
    failed = last.returncode or verify.returncode or different or left or not idle
    sys.exit(bool(failed or hit.total() < arguments.kills))


if __name__ == "__main__":
    main()
