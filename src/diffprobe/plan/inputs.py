"""The input files of jobs. An optional input that is absent is an empty list, as Snakemake expects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from diffprobe.config.inferred import transferred_latents
from diffprobe.config.levels import parts
from diffprobe.config.models import Config, Experiment
from diffprobe.config.remote import is_remote, parse
from diffprobe.plan.graph import Graph
from diffprobe.plan.layout import Layout
from diffprobe.plan.repeats import histories, repeats
from diffprobe.plan.uses import (
    autoencoder_weights,
    classifiers_by_level,
    finetune_of,
    probed_on,
    reconstructing,
    representative_samples,
)

Optional = str | list[str]

# Rules whose rows enter the tables.
FIGURES = (
    "baseline",
    "nearest_real",
    "reconstruct",
    "generation",
    "generate",
    "nearest",
    "decodings",
    "grid",
    "transfer",
    "extractor_probe",
)
LABEL_FREE = ("monitors", "similarity")
TUNED = ("finetune_lr",)


@dataclass(frozen=True)
class Inputs:
    """Input files by config entry: experiment, dataset, store of latents, autoencoder, extractor."""

    config: Config
    outside: Callable[[str], str] = str  # how a user's own file is named

    @property
    def layout(self) -> Layout:
        return Layout(self.config.results)

    @cached_property
    def graph(self) -> Graph:
        """All jobs, which are listed once for all the files that depend on them."""
        return Graph(self.config)

    # --- datasets and latents
    def archives(self, dataset: str) -> Optional:
        """The mark of a dataset's downloaded archives."""
        source = self.config.datasets[dataset].source
        return self.layout.archives(source.kind) if source.archives else []

    def mirror(self, kind: str) -> str | None:
        """The mirror of a kind of source; a check ensures that its datasets agree."""
        sources = [dataset.source for dataset in self.config.datasets.values()]
        mirrors = [getattr(source, "mirror", None) for source in sources if source.kind == kind]
        return next(filter(None, mirrors), None)

    def fetched(self, dataset: str) -> list[str]:
        """The remote files that a dataset is read from, where they are fetched to."""
        return [self.own(path) for path in self.config.datasets[dataset].source.remote_files]

    def own(self, path: str) -> str:
        """A user's own file, or where a remote one is fetched to."""
        if not is_remote(path):
            return self.outside(path)
        remote = parse(path)
        return self.outside(self.layout.fetched(remote.sha256, remote.name))

    def latents_images(self, latents: str) -> str:
        return self.layout.images(self.config.latents[latents].dataset)

    def latents_autoencoder(self, latents: str) -> str:
        return autoencoder_weights(self.config, self.config.latents[latents].autoencoder)

    def encoded(self, latents: str) -> list[str]:
        return [self.layout.encoded(latents, job) for job in range(self.config.latents[latents].jobs)]

    def vgg(self, autoencoder: str) -> Optional:
        """Local VGG16 weights for LPIPS."""
        vgg = self.config.autoencoders[autoencoder].vgg
        return self.own(vgg) if vgg else []

    # --- an experiment's parts
    def images(self, experiment: str) -> str:
        return self.layout.images(self.experiment(experiment).dataset)

    def latents(self, experiment: str) -> Optional:
        """The store of latents that the network is trained on, if not on pixels."""
        name = self.experiment(experiment).latents
        return [] if name is None else self.layout.latents(name)

    def autoencoder(self, experiment: str) -> Optional:
        name = self.experiment(experiment).latents
        return [] if name is None else self.latents_autoencoder(name)

    def coded_images(self, experiment: str) -> Optional:
        """The images of whose codes a model with an encoder draws samples."""
        return self.images(experiment) if self.experiment(experiment).task.samples_from_images else []

    def data(self, experiment: str) -> str:
        """The data that features are computed from: latents or images."""
        latents = self.latents(experiment)
        return latents if isinstance(latents, str) else self.images(experiment)

    def transferred_data(self, experiment: str, dataset: str) -> str:
        """The data that features of another dataset are computed from: latents or images."""
        latents = transferred_latents(self.config, self.experiment(experiment), dataset)
        return self.layout.images(dataset) if latents is None else self.layout.latents(latents)

    def experiment(self, name: str) -> Experiment:
        return self.config.experiments[name]

    # --- checkpoints
    def earlier(self, experiment: str, kimg: int) -> int:
        """The previous checkpoint, 0 for the first."""
        return max((k for k in self.experiment(experiment).train.checkpoints if k < kimg), default=0)

    def before(self, experiment: str, kimg: int) -> Optional:
        earlier = self.earlier(experiment, kimg)
        return self.layout.ema(experiment, earlier) if earlier else []

    def imported(self, experiment: str) -> Optional:
        """The file that an experiment's weights are imported from."""
        path = self.experiment(experiment).train.imported
        return self.own(path) if path else []

    def initial(self, experiment: str) -> Optional:
        """The file of the weights that an experiment's training begins with."""
        path = self.experiment(experiment).train.initial
        return self.own(path) if path else []

    def weights(self, experiment: str, kimg: int | str, weights: str) -> str:
        """The file of a checkpoint that holds these weights. All averages share a file, as do imported weights."""
        # Imported weights are a single file, whatever they are called.
        raw = weights == "raw" and not self.experiment(experiment).train.imported
        file = "raw.safetensors" if raw else "ema.safetensors"
        return self.layout.checkpoint(self.layout.run(experiment), kimg, file)

    def drawing_weights(self, experiment: str, kimg: int | str, sampler: str) -> str:
        return self.weights(experiment, kimg, self.experiment(experiment).sample.samplers[sampler].weights)

    def probed_weights(self, experiment: str, kimg: int | str) -> str:
        probe = self.experiment(experiment).probe
        return self.weights(experiment, kimg, probe.weights if probe else "ema")

    def feature_stores(self, experiment: str, kimg: int | str) -> list[str]:
        """All feature stores of a checkpoint."""
        count = parts(self.experiment(experiment))
        return [self.layout.features(experiment, kimg, part) for part in range(count)]

    def subset_cells(self, experiment: str, kimg: int | str) -> Optional:
        """The grid that says at which levels the features of a subset are wanted, where those come from a search."""
        probe = self.experiment(experiment).probe
        return self.layout.grid(experiment, kimg) if probe and probe.search else []

    def subsets(self, experiment: str) -> list[str]:
        """The features of a subset at every checkpoint."""
        return [self.layout.subset(experiment, kimg) for kimg in self.experiment(experiment).train.checkpoints]

    def monitored(self, experiment: str) -> dict[str, Optional]:
        """foreign.NAME of the extractors that monitors compare with."""
        probe, dataset = self.experiment(experiment).probe, self.experiment(experiment).dataset
        names = [(name, probe.subset.name) for name in probe.encoders] if probe else []
        return {f"foreign.{name}": self.layout.foreign(dataset, name, subset) for name, subset in names}

    def compared_with(self, experiment: str) -> dict[str, Optional]:
        """choices.NAME and stores.NAME of the experiments that an experiment is compared with."""
        probe = self.experiment(experiment).probe
        names = probe.similarity.experiments if probe and probe.similarity else []
        choices: dict[str, Optional] = {f"choices.{name}": self.layout.choice(name) for name in names}
        return choices | {f"stores.{name}": self.subsets(name) for name in names}

    def setting(self, experiment: str, evaluator: str, trial: str) -> Optional:
        """The learning rate of a run of fine-tuning, where several were tried; those are tried without it."""
        rates = finetune_of(self.experiment(experiment), evaluator).rates
        return self.layout.finetune_lr(experiment, evaluator) if rates and trial not in rates else []

    def finetuned(self, experiment: str, evaluator: str, choosing: bool) -> list[str]:
        """The checkpoints of the runs of fine-tuning: of each learning rate, or of each seed."""
        settings, layout = finetune_of(self.experiment(experiment), evaluator), self.layout
        probe = self.experiment(experiment).probe
        trials = settings.rates if choosing else settings.repeats(probe.seeds if probe else [])
        runs = [layout.finetuning(experiment, evaluator, trial) for trial in trials]
        return [layout.checkpoint(run, settings.kimg, "ema.safetensors") for run in runs]

    # --- extractors and their references
    def extractor_weights(self, extractor: str) -> Optional:
        """The checkpoint of an extractor trained by the workflow, or the local weights of another."""
        entry = self.config.extractors[extractor]
        if entry.trained_on is not None:
            return self.layout.classifier(extractor, entry.last_checkpoint)
        return self.own(entry.files[0]) if entry.files else []

    def measuring(self, experiment: str) -> dict[str, Optional]:
        """reference.NAME and weights.NAME of the extractors that measure its samples."""
        generation, dataset = self.experiment(experiment).generation, self.experiment(experiment).dataset
        names = generation.extractors if generation else []
        references: dict[str, Optional] = {f"reference.{name}": self.layout.reference(dataset, name) for name in names}
        return references | self.weights_by_extractor(names)

    def reconstructing(self, latents: str) -> dict[str, Optional]:
        """weights.NAME of the extractors that measure reconstructions."""
        return self.weights_by_extractor(reconstructing(self.config, latents))

    def weights_by_extractor(self, extractors: list[str]) -> dict[str, Optional]:
        return {f"weights.{name}": self.extractor_weights(name) for name in extractors}

    def foreign_reference(self, dataset: str, extractor: str) -> Optional:
        """Precomputed reference statistics, if the config names any."""
        path = self.config.datasets[dataset].references.get(extractor)
        return self.own(path) if path else []

    def compared(self, dataset: str) -> int:
        """Number of `test` images to search for copies: the most that any experiment searches."""
        experiments = self.config.experiments.values()
        counts = [e.generation.nearest for e in experiments if e.generation and e.dataset == dataset]
        return max(counts, default=0)

    # --- results
    def of_checkpoints(self, kind: Literal["select", "probed_weights"], experiment: str) -> list[str]:
        """One file per checkpoint."""
        layout, checkpoints = self.layout, self.experiment(experiment).train.checkpoints
        path = {"select": layout.select, "probed_weights": self.probed_weights}[kind]
        return [path(experiment, kimg) for kimg in checkpoints]

    def by_level(self, dataset: str) -> list[str]:
        """Test scores of a dataset's classifiers over the noise level."""
        return [self.layout.test(*classifier) for classifier in classifiers_by_level(self.config, dataset)]

    @property
    def summary(self) -> dict[str, list[str]]:
        """All files of rows, and the choices."""
        probed = [name for name, experiment in self.config.experiments.items() if experiment.probe]
        found = {"results": self.rows(), "choice": [self.layout.choice(name) for name in probed]}
        if repeats(self.config):
            found["history"] = [self.stats(name, kimg) for name, kimg in histories(self.config)]
        return found

    @property
    def overview(self) -> dict[str, list[str]]:
        """All files of rows, the choices, and the samples that stand for each experiment."""
        found = {name: files for name, files in self.summary.items() if name != "history"}
        return found | {"samples": [self.layout.samples(*one) for one in representative_samples(self.config)]}

    def receipts(self, experiment: str) -> list[str]:
        """The receipts of all results of an experiment."""
        stages = dict.fromkeys(self.graph.experiment(experiment, self.experiment(experiment)))
        return [stage.receipt for stage in stages if stage.receipt]

    def rows(self, subjects: Sequence[str] | None = None) -> list[str]:
        """The files of rows, all or those about some experiments and datasets."""
        evaluators = {e.rule for x in self.config.experiments.values() if x.probe for e in x.probe.evaluators.values()}
        rules = {*FIGURES, *TUNED, *LABEL_FREE, *evaluators}
        stages = [stage for stage in self.graph.stages if stage.rule in rules]
        wanted = [stage for stage in stages if subjects is None or stage.subject in subjects]
        return [next(file for file in stage.outputs if file.endswith(".json")) for stage in wanted]

    def comparison(self, dataset: str) -> dict[str, list[str]]:
        """Of the experiments on a dataset, which are compared, the files of rows, the choices, and the grids of all
        checkpoints; rows of the dataset itself too.
        """
        names, layout = probed_on(self.config, dataset), self.layout
        grids = [layout.grid(name, kimg) for name in names for kimg in self.experiment(name).train.checkpoints]
        choices = [layout.choice(name) for name in names]
        return {"results": self.rows([dataset, *names]), "choice": choices, "grid": grids}

    def stats(self, experiment: str, kimg: int) -> str:
        """The part of the history of training that ends at a checkpoint."""
        return self.layout.checkpoint(self.layout.run(experiment), kimg, "stats.jsonl")
