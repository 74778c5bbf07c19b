"""The status of a run for other programs. `docs/running.md` describes the keys, all of which are always there."""

import json
import time
from collections import Counter
from typing import Any

from diffprobe.config.models import Config
from diffprobe.reporting.status import StageState, collect

VERSION = 1  # goes up when a key changes its meaning or is gone, not for a further one
STATES = ("done", "running", "waiting", "stopped", "failed", "killed")
PROGRESS = ("done", "total", "unit", "rate", "seconds_left", "note", "log", "pid", "host", "started", "updated")


def as_json(config: Config) -> str:
    """One JSON object, indented."""
    states = collect(config)
    counts = Counter(state.state for state in states)
    status = {
        "version": VERSION,
        "time": time.time(),
        "results": config.results,
        "counts": {state: counts[state] for state in STATES},
        "stages": [stage_entry(state) for state in states],
    }
    return json.dumps(status, indent=2, allow_nan=False)


def stage_entry(state: StageState) -> dict[str, Any]:
    stage, snapshot = state.stage, state.progress
    return {
        "rule": stage.rule,
        "subject": stage.subject,
        "kimg": stage.kimg,
        "outputs": list(stage.files),
        "state": state.state,
        "progress": {key: snapshot[key] for key in PROGRESS} if snapshot else None,  # type: ignore[literal-required]
        "log_tail": list(state.tail),
        "older_code": list(state.older),
        "older_augmentation": state.older_augmentation,
    }
