"""The state of sources outside the results folder: a fingerprint of their files.

A state is part of the argument of the job that reads the source, so a change triggers a rerun. If a source is no longer
there, or cannot be read, its recorded state is used, and what was imported is kept.
"""

from contextlib import suppress
from functools import cache
from typing import Any

from diffprobe.config.autoencoders import PRETRAINED, Pretrained
from diffprobe.config.models import Config
from diffprobe.config.published import local_files
from diffprobe.data.fingerprint import fingerprint, fingerprint_arrays, is_there
from diffprobe.plan import job_arguments
from diffprobe.plan.job_arguments import Argument
from diffprobe.plan.layout import Layout, receipt, store_receipt
from diffprobe.runtime.receipts import read_receipt


class Sources:
    """The sources of a config, now and when they were last read."""

    def __init__(self, config: Config) -> None:
        self.config, self.layout = config, Layout(config.results)
        # Fingerprints read directories; Snakemake asks for them many times per job.
        self.images = cache(self._images)
        self.pretrained = cache(self._pretrained)
        self.imported_latents = cache(self._imported_latents)

    def images_argument(self, dataset: str) -> Argument:
        """The argument of the job that imports a dataset. To name the hash that its images have is no change."""
        argument = job_arguments.images(self.config.datasets[dataset], self.images(dataset))
        receipt = self.images_receipt(dataset)
        if receipt and argument.get("content") in (None, receipt.get("store", {}).get("content")):
            argument.pop("content", None)
            argument |= {key: value for key, value in receipt["config"].items() if key == "content"}
        return argument

    def latents_argument(self, latents: str) -> Argument:
        """The argument of the job that imports latents. Where `test` was wanted once, it is there."""
        argument = job_arguments.import_latents(self.config, latents, self.imported_latents(latents))
        wanted = self.latents_receipt(latents).get("config", {}).get("probing", False)
        return argument | {"probing": argument["probing"] or wanted}

    def pretrained_argument(self, autoencoder: str) -> Argument:
        """The argument of the job that imports a published autoencoder."""
        entry = self.config.autoencoders[autoencoder]
        assert isinstance(entry, Pretrained)
        return job_arguments.pretrained(entry, self.pretrained(autoencoder))

    def _images(self, dataset: str) -> str | None:
        """The state of a dataset's local files; None if it has none.

        Where the config names the hash of what must come out, images with that hash are right, whatever has become of
        the files, unless jobs go on reading those.
        """
        entry = self.config.datasets[dataset]
        receipt, paths = self.images_receipt(dataset), entry.local_paths
        recorded, stored = receipt.get("config", {}), receipt.get("store", {}).get("content")
        right = entry.content and entry.decode == "once" and stored == entry.content
        with suppress(OSError):  # a broken link, or a folder that cannot be read: the job that does names it
            if not right and (not recorded or all(map(is_there, paths))):
                return fingerprint(paths)
        return recorded.get("state")

    def _pretrained(self, autoencoder: str) -> str | None:
        """The state of a published autoencoder's local folders; None if it comes from the hub."""
        entry = self.config.autoencoders[autoencoder]
        assert isinstance(entry, Pretrained)
        recorded = self.pretrained_config(autoencoder)
        with suppress(OSError):
            if not recorded or all(map(is_there, entry.local_sources.values())):
                return fingerprint(local_files(entry))
        return recorded.get("state")

    def _imported_latents(self, latents: str) -> str | None:
        """The state of imported latents."""
        imported, recorded = self.config.latents[latents].imported, self.latents_receipt(latents)
        assert imported is not None
        with suppress(OSError):
            if not recorded or all(is_there(path) for path in (imported.path, imported.test) if path):
                return fingerprint_arrays(imported.folders)
        return recorded.get("config", {}).get("state")

    # A damaged receipt is as one that is not there: the source is read again.
    def images_receipt(self, dataset: str) -> dict[str, Any]:
        """The receipt of the last import of a dataset; {} if there is none."""
        return read_receipt(receipt(self.layout.images(dataset))) or {}

    def latents_receipt(self, latents: str) -> dict[str, Any]:
        """The receipt of the last import of latents; {} if there is none."""
        return read_receipt(store_receipt(self.layout.latents(latents))) or {}

    def pretrained_config(self, autoencoder: str) -> dict[str, Any]:
        """The job argument of the last import of a published autoencoder; {} if there is none."""
        run = self.layout.autoencoder(autoencoder)
        recorded = read_receipt(self.layout.checkpoint(run, PRETRAINED, "receipt.json")) or {}
        return recorded.get("config", {})
