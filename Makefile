# make demo: install, run the main job, print the results.   make test: install, run the tests.
# make bench: speed and memory beside plain references (ROWS=ddpm,dit: some of them; DEMO=1: the demo too).
PYTHON ?= python3
CORES ?= 2
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-faults test-kills test-slurm test-remote test-report bench env lint lock clean
.DEFAULT_GOAL := demo

demo: env
	@$(BIN)/diffprobe run config/config.yaml --cores $(CORES)

test: env
	$(BIN)/python -m pytest

# Hostile inputs: at every entrance, each refused in one clear line (tests/faults/).
test-faults: env
	$(BIN)/python -m pytest tests/faults --dist worksteal

# Sixty SIGKILLs in jobs of every rule of a small run in pixels and latents: the same results, nothing left behind.
test-kills: env
	$(BIN)/python tests/kill_every_rule.py $(or $(FOLDER),$(shell mktemp -d)) --kills 60

# A Slurm of two nodes on this machine, for a small chain and one training on both; as root, with Debian's packages. Then
# the profiles of other schedulers, with stand-ins.
test-slurm: env
	apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock "snakemake-executor-plugin-slurm>=2.8" \
	  "snakemake-executor-plugin-cluster-generic>=1.0.9" "kubernetes>=37"
	$(BIN)/python -m pytest -n 0 tests/slurm tests/test_cluster_profiles.py

# Remote files from an object store and a web server on loopback. Their packages lie beside the others, since botocore
# needs an older python-dateutil than the one that is locked.
REMOTE := $(CURDIR)/$(VENV)/remote
test-remote: env
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target $(REMOTE) \
	  "moto[s3]>=5" flask flask-cors snakemake-storage-plugin-s3 snakemake-storage-plugin-http
	PYTHONPATH=$(REMOTE) $(BIN)/python -m pytest -n 0 tests/test_remote_files.py

# The report in a browser, without a window; as root, with Debian's Chromium. Without one, make test skips it.
test-report: env
	apt-get install -y -qq --no-install-recommends chromium
	$(BIN)/python -m pytest -n 0 tests/test_report.py

# On an idle machine; the whole of it writes docs/BENCHMARKS.md.
comma := ,
bench: env
	$(BIN)/python -m benchmarks $(subst $(comma), ,$(ROWS)) $(if $(DEMO),--demo)

env: $(VENV)/.installed

# The mark is written last, so that an installation that was cut short is done again.
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "diffprobe needs Python 3.11 or newer with venv (Debian, Ubuntu: apt-get install python3-venv); choose one with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow/Snakefile rules
	$(BIN)/snakemake --lint

# Bring the lock up to pyproject.toml (uv resolves for every platform at once). Pins that still fit stay as they are;
# make lock UPGRADE=--upgrade moves them all to the newest.
lock: env
	$(BIN)/python -m pip install --quiet uv
	cp requirements.lock requirements.lock.new
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-annotate --no-header $(UPGRADE) \
	  --output-file requirements.lock.new pyproject.toml > /dev/null
	{ echo "# Every package that diffprobe runs with, pinned; made by: make lock"; cat requirements.lock.new; } > requirements.lock
	rm requirements.lock.new

clean:
	rm -rf results .snakemake
