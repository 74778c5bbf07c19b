# docker build -t diffprobe .
# docker run --rm --gpus all --shm-size 8g --user "$(id -u):$(id -g)" -v "$PWD:/work" -v ~/photos:/photos:ro diffprobe run /photos
FROM python:3.11-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /tmp/build

# Pinned packages first: a layer of gigabytes that a change of the code leaves alone.
COPY requirements.lock ./
RUN pip install -r requirements.lock

COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE Snakefile ./
COPY src src
COPY rules rules
COPY workflow workflow
COPY profiles profiles
COPY config config
COPY envs envs
RUN pip install --no-deps --no-build-isolation . && rm -rf /tmp/build

# Any user may run it: Snakemake, matplotlib and torch write caches below the home folder.
ENV HOME=/tmp/home
RUN mkdir -m 1777 /tmp/home
WORKDIR /work
ENTRYPOINT ["diffprobe"]
CMD ["--help"]
