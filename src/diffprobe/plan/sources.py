"""The state of what lies outside the results: whether a source has changed since it was last read.

A state is a part of the argument of the job that reads the source, so a change is read anew. Where the source is gone,
the state is the recorded one: what was read before stays.
"""

from functools import cache
from pathlib import Path
from typing import Any

from diffprobe.config.autoencoders import PRETRAINED, Pretrained
from diffprobe.config.models import Config
from diffprobe.config.published import local_files
from diffprobe.data.fingerprint import fingerprint, fingerprint_arrays
from diffprobe.plan.layout import Layout, receipt, store_receipt
from diffprobe.runtime.files import read_json


class Sources:
    """The sources of a config, as they are now and as they were when they were last read."""

    def __init__(self, config: Config) -> None:
        self.config, self.layout = config, Layout(config.results)
        self.images = cache(self._images)
        self.pretrained = cache(self._pretrained)
        self.imported_latents = cache(self._imported_latents)

    def _images(self, dataset: str) -> str | None:
        """The state of a dataset's local files; None where it has none."""
        paths = self.config.datasets[dataset].source.local_paths
        if all(Path(path).exists() for path in paths) or not self.images_receipt(dataset):
            return fingerprint(paths)
        return self.images_receipt(dataset)["config"].get("state")

    def _pretrained(self, autoencoder: str) -> str | None:
        """The state of a published autoencoder's local folders; None where it comes from the hub."""
        entry = self.config.autoencoders[autoencoder]
        assert isinstance(entry, Pretrained)
        recorded = self.pretrained_argument(autoencoder)
        if all(Path(path).exists() for path in entry.local_sources.values()) or not recorded:
            return fingerprint(local_files(entry))
        return recorded.get("state")

    def _imported_latents(self, latents: str) -> str | None:
        """The state of the folders of latents that another system has encoded."""
        imported, made = self.config.latents[latents].imported, Path(store_receipt(self.layout.latents(latents)))
        assert imported is not None
        if all(Path(path).exists() for path in (imported.path, imported.test) if path) or not made.exists():
            return fingerprint_arrays(imported.folders)
        return read_json(made)["config"].get("state")

    def images_receipt(self, dataset: str) -> dict[str, Any]:
        """The receipt of the images as they were last read, {} where they were not."""
        path = Path(receipt(self.layout.images(dataset)))
        return read_json(path) if path.exists() else {}

    def pretrained_argument(self, autoencoder: str) -> dict[str, Any]:
        """The entry of a published autoencoder as it was last read, {} where it was not."""
        run = self.layout.autoencoder(autoencoder)
        path = Path(self.layout.checkpoint(run, PRETRAINED, "receipt.json"))
        return read_json(path)["config"] if path.exists() else {}
