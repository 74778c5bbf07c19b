"""Small folders of latents as other systems leave them, for an image store whose rows are not in its files' order."""

from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file
from toy_latents import write_images

from diffprobe.config.latents import Peers
from diffprobe.data import hdf5, images
from diffprobe.data.splits import TEST
from diffprobe.interop.latents.fitting import source_positions
from diffprobe.interop.latents.importing import open_placed, plan_import, write
from diffprobe.latents.completion import finish
from diffprobe.latents.identity import configured_scaling
from diffprobe.latents.settings import ImportSettings
from diffprobe.latents.store import LatentStore, open_store

SHAPE = (2, 2, 2)  # a latent of the toy autoencoder


def write_shuffled_images(path: Path) -> Path:
    """An image store of which row i is image order[i] of the dataset's files."""
    write_images(path)
    with h5py.File(path, "r+") as file:
        n = len(file["labels"])
        file["order"] = np.random.default_rng(5).permutation(n)
        file.attrs.modify("content", np.bytes_(hdf5.content_of(file)))
    return path


def listing(pictures: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In the order of the dataset's files: rows int64 (N,) in its store, their splits and labels."""
    rows = np.argsort(source_positions(pictures))
    with images.open_store(pictures) as file:
        return rows, file["split"][:][rows], file["labels"][:][rows]


def latents_of(rows: np.ndarray, view: int = 0, channels: int = 2) -> np.ndarray:
    """What a peer has encoded of these rows (n,): float32 (n, channels, 2, 2), exact in float16."""
    values = np.arange(channels * 4, dtype=np.float32).reshape(1, channels, 2, 2) + 100 * view
    return values + rows[:, None, None, None].astype(np.float32) / 8 % 16


def write_npy(folder: Path, pictures: Path, versions: int = 2, scaled: float = 1, channels: int = 2) -> Path:
    rows, split, labels = listing(pictures)
    folder.mkdir(parents=True)
    for name, among, count in (("train", split != TEST, versions), ("test", split == TEST, 1)):
        np.save(folder / f"{name}_label.npy", labels[among])
        for view in range(count):
            np.save(folder / f"{name}_code_{view}.npy", latents_of(rows[among], view, channels) * np.float32(scaled))
    return folder


def write_files(folder: Path, pictures: Path, batched: bool = True) -> Path:
    """Files of all images; the folder's name holds `features`."""
    rows, _, labels = listing(pictures)
    beside = folder.with_name(folder.name.replace("features", "labels"))
    folder.mkdir(parents=True)
    beside.mkdir()
    for number, (one, label) in enumerate(zip(latents_of(rows), labels, strict=True)):
        np.save(folder / f"{number}.npy", one[None] if batched else one)
        np.save(beside / f"{number}.npy", np.array([label]))
    return folder


def write_shards(folder: Path, rows: np.ndarray, labels: np.ndarray, ranks: int, size: int = 70) -> Path:
    """Shards as `ranks` processes write them of images in order, each its share, padded from the front."""
    folder.mkdir(parents=True)
    padded = np.resize(np.arange(len(rows)), -(-len(rows) // ranks) * ranks)
    for rank in range(ranks):
        share = padded[rank::ranks]
        for number, start in enumerate(range(0, len(share), size)):
            own = share[start : start + size]
            tensors = {
                "latents": torch.from_numpy(latents_of(rows[own])),
                "latents_flip": torch.from_numpy(latents_of(rows[own], 1)),
                "labels": torch.from_numpy(labels[own]),
            }
            save_file(tensors, folder / f"latents_rank{rank:02d}_shard{number:03d}.safetensors")
    return folder


class ImportJob(NamedTuple):
    peers: Peers
    settings: ImportSettings


def import_job(
    kind: str, path: Path, test: Path | None = None, scaled: float = 1.0, scale: str | float = "measured"
) -> ImportJob:
    """What a job that imports is configured with."""
    entry = {"kind": kind, "path": str(path), "test": test and str(test), "scaled": scaled}
    settings = ImportSettings(
        imported={"kind": kind, "scaled": scaled}, scale=scale, shard_chunks=1, state="s", shape=SHAPE, probing=False
    )
    return ImportJob(TypeAdapter(Peers).validate_python(entry), settings)


def imported(folder: Path, pictures: Path, job: ImportJob) -> LatentStore:
    """The store that the job makes, or completes."""
    placed = open_placed(job.peers, pictures, job.settings.shape)
    plan = plan_import(job.settings, folder / "latents.zarr", pictures, placed)
    write(plan, placed, job.peers.scaled)
    labels, rows = ({split: getattr(own, name) for split, own in placed.items()} for name in ("labels", "rows"))
    finish(plan, labels, rows, job.settings.scale, configured_scaling(job.settings.scale, None))
    return open_store(plan.path)


EXPERIMENT = {
    "dataset": "digits",
    "latents": "theirs",
    "network": {"kind": "dit", "width": 16, "depth": 1, "heads": 2, "patch": 4},
    "process": {"kind": "flow"},
    "train": {"checkpoints": [1]},
    "sample": {"samplers": {"heun": {"kind": "heun", "steps": 3}}},
}


def config_with(**theirs: object) -> dict:
    """A whole config whose one store of latents has these keys."""
    network = {"kind": "autoencoder_kl", "widths": [4, 8], "groups": 4}
    vae = {"kind": "trained", "dataset": "digits", "size": 16, "network": network, "train": {"kimg": 1}}
    return {
        "datasets": {"digits": {"source": {"kind": "digits"}}},
        "autoencoders": {"vae": vae},
        "latents": {"theirs": {"dataset": "digits", "autoencoder": "vae", **theirs}},
        "experiments": {"dit": EXPERIMENT},
    }
