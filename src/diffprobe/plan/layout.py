"""The layout of the results folder: every path of the workflow is defined here, for the rules and for `status`.

Arguments are values, or Snakemake wildcards such as "{experiment}".
"""

from dataclasses import dataclass
from pathlib import PurePosixPath


def receipt(path: str) -> str:
    """The receipt beside a result."""
    return str(PurePosixPath(path).with_suffix(".receipt.json"))


def store_receipt(mark: str) -> str:
    """The receipt of a store, beside its folder; `mark` is the file inside that marks it as complete."""
    return str(PurePosixPath(mark).parent) + ".receipt.json"


@dataclass(frozen=True)
class Layout:
    """Paths below the results folder `root`."""

    root: str

    # --- data
    def archives(self, kind: str) -> str:
        """Written last, beside a public dataset's verified archives."""
        return f"{self.root}/archives/{kind}/archives.json"

    def fetched(self, sha256: str, name: str) -> str:
        """A remote file, in a folder named by its content."""
        return f"{self.root}/fetched/{sha256}/{name}"

    def images(self, dataset: str) -> str:
        return f"{self.root}/data/{dataset}/images.h5"

    def dataset_table(self, dataset: str) -> str:
        """What was seen of a dataset, for the report."""
        return f"{self.root}/data/{dataset}/dataset.csv"

    def baseline(self, dataset: str) -> str:
        return f"{self.root}/data/{dataset}/baseline.json"

    def levels_plot(self, dataset: str) -> str:
        """Accuracy over noise level of all classifiers of a dataset."""
        return f"{self.root}/data/{dataset}/levels.png"

    def levels_data(self, dataset: str) -> str:
        """What that plot shows, as a table."""
        return f"{self.root}/data/{dataset}/levels.csv"

    def extracted(self, dataset: str, extractor: str) -> str:
        """Features of a dataset by an extractor, complete with this mark."""
        return f"{self.root}/data/{dataset}/features/{extractor}/features.json"

    def nearest_real(self, dataset: str) -> str:
        """Nearest neighbours of `test` images: the baseline for images that are not copies."""
        return f"{self.root}/data/{dataset}/nearest.json"

    def reference(self, dataset: str, extractor: str) -> str:
        return f"{self.root}/data/{dataset}/reference/{extractor}.npz"

    # --- latents
    def autoencoder(self, autoencoder: str) -> str:
        return f"{self.root}/autoencoders/{autoencoder}"

    def autoencoder_weights(self, autoencoder: str, kimg: int | str) -> str:
        return self.checkpoint(self.autoencoder(autoencoder), kimg, "ema.safetensors")

    def encoded(self, latents: str, job: int | str) -> str:
        """The record of one encoding job, whose parts are in the store."""
        return f"{self.root}/latents/{latents}/encoded/{job}.json"

    def reconstruction(self, latents: str) -> str:
        return f"{self.root}/latents/{latents}/reconstruction.json"

    def pairs(self, latents: str) -> str:
        """Images and their reconstructions, for the plot."""
        return f"{self.root}/latents/{latents}/reconstruction.npz"

    def latents(self, latents: str) -> str:
        """Written last, so it marks the store as complete."""
        return f"{self.root}/latents/{latents}/latents.zarr/zarr.json"

    # --- training runs
    def run(self, experiment: str) -> str:
        return f"{self.root}/runs/{experiment}"

    def extractor(self, extractor: str) -> str:
        return f"{self.root}/extractors/{extractor}"

    def checkpoint(self, run: str, kimg: int | str, file: str) -> str:
        """`file`: ema.safetensors, raw.safetensors, stats.jsonl or receipt.json."""
        return f"{run}/checkpoints/{kimg}/{file}"

    def ema(self, experiment: str, kimg: int | str) -> str:
        return self.checkpoint(self.run(experiment), kimg, "ema.safetensors")

    def classifier(self, extractor: str, kimg: int | str) -> str:
        return self.checkpoint(self.extractor(extractor), kimg, "ema.safetensors")

    def state(self, run: str, kimg: int | str) -> str:
        return f"{run}/states/{kimg}.safetensors"

    # --- evaluation of one checkpoint
    def samples(self, experiment: str, kimg: int | str, sampler: str) -> str:
        """Written last, so it marks the store as complete."""
        return f"{self.run(experiment)}/samples/{kimg}/{sampler}.zarr/zarr.json"

    def samples_npz(self, experiment: str, kimg: int | str, sampler: str) -> str:
        """The samples for ADM's evaluation suite, made on request."""
        return f"{self.run(experiment)}/samples/{kimg}/{sampler}.npz"

    def samples_png(self, experiment: str, kimg: int | str, sampler: str) -> str:
        """The samples as a folder of PNG files, made on request."""
        return f"{self.run(experiment)}/samples/{kimg}/{sampler}.png"

    def strip(self, experiment: str, kimg: int | str, sampler: str) -> str:
        return f"{self.run(experiment)}/samples/{kimg}/{sampler}.strip.npz"

    def generation(self, experiment: str, kimg: int | str, sampler: str) -> str:
        return f"{self.run(experiment)}/generation/{kimg}/{sampler}.json"

    def nearest(self, experiment: str, kimg: int | str, sampler: str) -> str:
        return f"{self.run(experiment)}/nearest/{kimg}/{sampler}.json"

    def nearest_pairs(self, experiment: str, kimg: int | str, sampler: str) -> str:
        """Samples and their nearest training images, for the plot."""
        return f"{self.run(experiment)}/nearest/{kimg}/{sampler}.npz"

    def decodings(self, experiment: str, kimg: int | str, sampler: str) -> str:
        return f"{self.run(experiment)}/decodings/{kimg}/{sampler}.json"

    def decodings_pictures(self, experiment: str, kimg: int | str, sampler: str) -> str:
        """Images and decodings of their codes, for the plot."""
        return f"{self.run(experiment)}/decodings/{kimg}/{sampler}.npz"

    def features(self, experiment: str, kimg: int | str, part: int | str) -> str:
        """A temporary folder unless state.keep_features is `all`; `part` numbers the jobs that share the levels."""
        return f"{self.run(experiment)}/features/{kimg}/{part}"

    def grid(self, experiment: str, kimg: int | str) -> str:
        return f"{self.run(experiment)}/probe/{kimg}/grid.csv"

    def select(self, experiment: str, kimg: int | str) -> str:
        return f"{self.run(experiment)}/probe/{kimg}/select.json"

    def subset(self, experiment: str, kimg: int | str) -> str:
        """Features of the images of `probe.subset`; a temporary folder like the others."""
        return f"{self.run(experiment)}/features/{kimg}/subset"

    def foreign(self, dataset: str, extractor: str, subset: str) -> str:
        """The features that an extractor has of the images of a subset."""
        return f"{self.root}/data/{dataset}/foreign/{extractor}.{subset}.npz"

    def monitors(self, experiment: str, kimg: int | str) -> str:
        return f"{self.run(experiment)}/probe/{kimg}/monitors.csv"

    def monitor_rows(self, experiment: str, kimg: int | str) -> str:
        """Those of the checkpoint's best cell."""
        return f"{self.run(experiment)}/probe/{kimg}/monitors.json"

    # --- choice, final scores, tables
    def choice(self, experiment: str) -> str:
        return f"{self.run(experiment)}/probe/choice.json"

    def chosen(self, experiment: str) -> str:
        """Written last, so it marks the store of chosen features as complete."""
        return f"{self.run(experiment)}/features/chosen/features.json"

    def test(self, experiment: str, evaluator: str) -> str:
        return f"{self.run(experiment)}/probe/test/{evaluator}.json"

    def pictures(self, experiment: str, evaluator: str) -> str:
        """Images with their masks and those that an evaluator predicts, for the plot."""
        return f"{self.run(experiment)}/probe/test/{evaluator}.npz"

    def similarity(self, experiment: str) -> str:
        return f"{self.run(experiment)}/probe/similarity.json"

    def feature_pictures(self, experiment: str) -> str:
        """Principal components of the chosen features, and their plane, for the plots."""
        return f"{self.run(experiment)}/probe/pictures.npz"

    def transferred(self, experiment: str, dataset: str) -> str:
        """Features of another dataset by the chosen model, complete with this mark."""
        return f"{self.run(experiment)}/features/transfer/{dataset}/features.json"

    def transfer(self, experiment: str, dataset: str, evaluator: str) -> str:
        return f"{self.run(experiment)}/probe/transfer/{dataset}/{evaluator}.json"

    def extractor_probe(self, experiment: str, extractor: str, evaluator: str) -> str:
        """The scores of an evaluator on an extractor's features."""
        return f"{self.run(experiment)}/probe/extractors/{extractor}/{evaluator}.json"

    def finetuning(self, experiment: str, evaluator: str, trial: str) -> str:
        """The folder of a training run of an evaluator."""
        return f"{self.run(experiment)}/finetuning/{evaluator}/{trial}"

    def finetune_lr(self, experiment: str, evaluator: str) -> str:
        """The best of several learning rates, on `select`."""
        return f"{self.run(experiment)}/probe/tuned/{evaluator}.json"

    def plot(self, experiment: str, name: str) -> str:
        return f"{self.run(experiment)}/plots/{name}.png"

    def plot_data(self, experiment: str, name: str) -> str:
        """What a plot shows, as a table."""
        return f"{self.run(experiment)}/plots/{name}.csv"

    def page(self, experiment: str) -> str:
        """The page of an experiment in the report."""
        return f"{self.run(experiment)}/page.html"

    def comparison(self, dataset: str) -> dict[str, str]:
        """The files that compare the experiments on a dataset, by name; `data` is what the plot shows."""
        files = {"plot": "comparison.png", "data": "comparison.csv"}
        files |= {"experiments": "experiments.csv", "evaluators": "evaluators.csv"}
        return {name: f"{self.root}/data/{dataset}/comparison/{file}" for name, file in files.items()}

    def latents_plot(self, latents: str) -> str:
        return f"{self.root}/latents/{latents}/reconstruction.png"

    def summary(self) -> str:
        return f"{self.root}/summary.csv"

    def results_table(self) -> str:
        return f"{self.root}/results.csv"

    def best_table(self) -> str:
        return f"{self.root}/best.csv"

    def repeats_table(self) -> str:
        return f"{self.root}/repeats.csv"

    def overview(self) -> dict[str, str]:
        """The first page of the report, the figure on it and what that shows, by name."""
        files = {"page": "overview.html", "plot": "experiments.png", "data": "experiments.csv"}
        return {name: f"{self.root}/{file}" for name, file in files.items()}

    def report(self) -> str:
        return f"{self.root}/report.html"

    # --- logs
    def log(self, rule: str, *names: int | str) -> str:
        return f"{self.root}/logs/{rule}/{'.'.join(map(str, names)) or 'all'}.log"

    def benchmark(self, rule: str, *names: int | str) -> str:
        return f"{self.root}/benchmarks/{rule}/{'.'.join(map(str, names)) or 'all'}.jsonl"

    def progress(self, rule: str, *names: int | str) -> str:
        return self.log(rule, *names).removesuffix(".log") + ".json"
