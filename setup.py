"""Puts the workflow into the wheel: what a clone has beside src/ goes to diffprobe/project (runtime/places.py)."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PARTS = ("Snakefile", "rules", "workflow", "profiles", "config", "envs")


class WithWorkflow(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:  # which runs from the clone
            return
        project = Path(self.build_lib) / "diffprobe" / "project"
        shutil.rmtree(project, ignore_errors=True)  # of an earlier build, with files that are gone by now
        for part in map(Path, PARTS):
            if part.is_dir():
                shutil.copytree(part, project / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                project.mkdir(parents=True, exist_ok=True)
                shutil.copy(part, project / part)


setup(cmdclass={"build_py": WithWorkflow})
