"""All jobs that a config implies, for the target rule and for `status`, and queries about who uses what."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from diffprobe.config.autoencoders import PRETRAINED, Autoencoder
from diffprobe.config.evaluators import Evaluator
from diffprobe.config.latents import Latents
from diffprobe.config.levels import parts
from diffprobe.config.models import Config, Experiment
from diffprobe.config.probing import Probe
from diffprobe.plan.figures import alike, figure_rule, figures
from diffprobe.plan.layout import Layout, receipt, store_receipt
from diffprobe.plan.own_files import remote_files
from diffprobe.plan.repeats import repeats
from diffprobe.plan.uses import (
    classifiers_by_level,
    compared_datasets,
    compared_features,
    foreign_features,
    measured,
    measured_at_once,
    parted,
    probed_datasets,
    probed_extractors,
    probed_on,
    references,
    used_extractors,
    used_latents,
)


@dataclass(frozen=True)
class Stage:
    """One job: its rule, its subject, and its declared outputs."""

    rule: str
    subject: str  # dataset, extractor or experiment; "" for the whole project
    outputs: tuple[str, ...]
    receipt: str  # "" for plots and tables, which have none
    progress: str
    kimg: int | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All declared outputs, including the receipt."""
        return (*self.outputs, self.receipt) if self.receipt else self.outputs

    @property
    def requested_files(self) -> list[str]:
        """The files to ask for so that whichever is missing is made again.

        The first brings the others along. Each file that is asked for costs Snakemake half a millisecond or more.
        """
        first, *others = self.files
        return [first, *(file for file in others if Path(first).exists() and not Path(file).exists())]


@dataclass(frozen=True)
class Graph:
    """The stages of a config, in the order of data flow."""

    config: Config

    @property
    def layout(self) -> Layout:
        return Layout(self.config.results)

    def stage(
        self,
        rule: str,
        subject: str,
        *outputs: str,
        names: tuple[int | str, ...] = (),
        kimg: int | None = None,
        receipt_at: str | None = None,
        progress: str | None = None,
    ) -> Stage:
        """`names` are wildcards after the subject. The receipt is beside the first output unless `receipt_at` says
        otherwise (`""`: no receipt).
        """
        wildcards = (subject, *names) if subject else ()
        beside = receipt(outputs[0]) if receipt_at is None and outputs else receipt_at or ""
        return Stage(rule, subject, outputs, beside, progress or self.layout.progress(rule, *wildcards), kimg)

    @cached_property
    def stages(self) -> list[Stage]:
        """All jobs that the config asks for, whether their outputs exist or not.

        Each once: stores may share an autoencoder, and datasets a download.
        """
        return list(dict.fromkeys(self.repeated_stages()))

    def repeated_stages(self) -> Iterator[Stage]:
        """The jobs that each part of the config asks for."""
        config, layout = self.config, self.layout
        for path, remote in remote_files(config).items():
            # Only the receipt is asked for: whoever deletes the file, once all is made of it, need not fetch it again.
            yield self.stage("fetch", remote.sha256, names=(remote.name,), receipt_at=receipt(path))
        for name, dataset in config.datasets.items():
            if dataset.source.archives:
                yield self.stage("download", dataset.source.kind, layout.archives(dataset.source.kind))
            yield self.stage("images", name, layout.images(name))
            yield self.stage("dataset_table", name, layout.dataset_table(name), receipt_at="")
            if name in probed_datasets(config):
                yield self.stage("baseline", name, layout.baseline(name))
            if name in compared_datasets(config):
                yield self.stage("nearest_real", name, layout.nearest_real(name))
        for name, latents in used_latents(config).items():
            yield self.autoencoder(latents.autoencoder, config.autoencoders[latents.autoencoder])
            yield from self.latents(name, latents)
            yield self.stage("reconstruct", name, layout.reconstruction(name), layout.pairs(name))
            yield self.stage("plot_reconstruction", name, layout.latents_plot(name), receipt_at="")
        for name, extractor in used_extractors(config).items():
            if extractor.trained_on is not None:
                yield self.training("classifier", name, layout.extractor(name), extractor.last_checkpoint)
        for dataset_name, name in references(config):
            yield self.stage("reference", dataset_name, layout.reference(dataset_name, name), names=(name,))
        for dataset_name, name, subset in foreign_features(config):
            yield self.stage("foreign", dataset_name, layout.foreign(dataset_name, name, subset), names=(name, subset))
        for dataset_name, name in probed_extractors(config):
            mark = layout.extracted(dataset_name, name)
            yield self.stage("extracted", dataset_name, mark, names=(name,), receipt_at=store_receipt(mark))
        for name, experiment in config.experiments.items():
            yield from self.experiment(name, experiment)
        for name in config.datasets:
            if classifiers_by_level(config, name):
                drawn = layout.levels_plot(name), layout.levels_data(name)
                yield self.stage("plot_levels", name, *drawn, receipt_at="")
        tables = [layout.summary(), layout.results_table(), layout.best_table()]
        if repeats(config):
            tables.append(layout.repeats_table())
        yield self.stage("summary", "", *tables, receipt_at="")
        page, *figure = layout.overview().values()
        yield self.stage("overview", "", page, *(figure if parted(config) else ()), receipt_at="")
        for name in config.datasets:
            if len(probed_on(config, name)) > 1:
                yield self.stage("comparison", name, *layout.comparison(name).values(), receipt_at="")

    def autoencoder(self, name: str, autoencoder: Autoencoder) -> Stage:
        run = self.layout.autoencoder(name)
        if autoencoder.trained_on is not None:
            return self.training(autoencoder.rule, name, run, int(autoencoder.last_checkpoint))
        weights = self.layout.autoencoder_weights(name, PRETRAINED)
        paper = self.layout.checkpoint(run, PRETRAINED, "receipt.json")
        return self.stage(autoencoder.rule, name, weights, receipt_at=paper)

    def training(self, rule: str, subject: str, run: str, kimg: int) -> Stage:
        files = [self.layout.checkpoint(run, kimg, file) for file in ("ema.safetensors", "raw.safetensors")]
        stats = self.layout.checkpoint(run, kimg, "stats.jsonl")
        paper = self.layout.checkpoint(run, kimg, "receipt.json")
        progress = f"{run}/progress.json"
        return self.stage(rule, subject, *files, stats, names=(kimg,), kimg=kimg, receipt_at=paper, progress=progress)

    def latents(self, name: str, latents: Latents) -> Iterator[Stage]:
        """Parts by several jobs and the job that completes the store, or one job that imports latents."""
        store = self.layout.latents(name)
        for job in range(0 if latents.imported else latents.jobs):
            yield self.stage("encode", name, self.layout.encoded(name, job), names=(job,))
        rule = "import_latents" if latents.imported else "latents"
        yield self.stage(rule, name, store, receipt_at=store_receipt(store))

    def experiment(self, name: str, experiment: Experiment) -> Iterator[Stage]:
        """Training; per checkpoint samples, metrics, features and the grid; then the choice and the final scores."""
        layout = self.layout
        for kimg in experiment.train.checkpoints:
            if experiment.train.imported:
                paper = layout.checkpoint(layout.run(name), kimg, "receipt.json")
                weights = layout.ema(name, kimg)
                yield self.stage("imported", name, weights, names=(kimg,), kimg=kimg, receipt_at=paper)
            else:
                yield self.training("pretrain", name, layout.run(name), kimg)
            for sampler in experiment.sample.samplers:
                yield from self.samples(name, kimg, sampler, experiment)
            if experiment.probe:
                for part in range(parts(experiment)):
                    yield self.features("features", name, kimg, layout.features(name, kimg, part), part)
                yield self.stage(
                    "grid", name, layout.grid(name, kimg), layout.select(name, kimg), names=(kimg,), kimg=kimg
                )
                if name in self.compared:
                    yield self.features("subset", name, kimg, layout.subset(name, kimg))
                if experiment.probe.monitors:
                    tables = layout.monitors(name, kimg), layout.monitor_rows(name, kimg)
                    yield self.stage("monitors", name, *tables, names=(kimg,), kimg=kimg)
        if experiment.probe:
            store = layout.chosen(name)
            yield self.stage("choice", name, layout.choice(name))
            yield self.stage("chosen", name, store, receipt_at=store_receipt(store))
            for evaluator, settings in experiment.probe.evaluators.items():
                yield from self.trials(name, evaluator, settings, experiment.probe)
                pictures = [layout.pictures(name, evaluator)] if settings.pictures else []
                yield self.stage(settings.rule, name, layout.test(name, evaluator), *pictures, names=(evaluator,))
            if experiment.probe.similarity:
                yield self.stage("similarity", name, layout.similarity(name))
            if experiment.probe.pictures:
                yield self.stage("pictures", name, layout.feature_pictures(name))
            yield from self.elsewhere(name, experiment.probe)
        drawn = list(figures(layout, name, experiment))
        files = [layout.plot(name, figure.name) for figure in drawn]
        shown = [layout.plot_data(name, figure.name) for figure in drawn if figure.has_data]
        yield self.stage(self.figure_rules[name], name, *files, *shown, layout.page(name), receipt_at="")

    def elsewhere(self, name: str, probe: Probe) -> Iterator[Stage]:
        """The evaluators on other datasets' features, and on those of other networks."""
        layout = self.layout
        for dataset in probe.transfer:
            store = layout.transferred(name, dataset)
            yield self.stage("transferred", name, store, names=(dataset,), receipt_at=store_receipt(store))
            for evaluator in probe.heads:
                rows = layout.transfer(name, dataset, evaluator)
                yield self.stage("transfer", name, rows, names=(dataset, evaluator))
        for extractor in probe.baselines:
            for evaluator in probe.plain_heads:
                rows = layout.extractor_probe(name, extractor, evaluator)
                yield self.stage("extractor_probe", name, rows, names=(extractor, evaluator))

    def features(self, rule: str, name: str, kimg: int, store: str, *more: int) -> Stage:
        """A job whose store is temporary, unless all are kept."""
        kept = [store] if self.config.state.keep_features == "all" else []
        return self.stage(rule, name, *kept, names=(kimg, *more), kimg=kimg, receipt_at=receipt(store))

    def trials(self, name: str, evaluator: str, settings: Evaluator, probe: Probe) -> Iterator[Stage]:
        """The training runs of an evaluator, and the choice among its settings where there are several."""
        layout = self.layout
        trials = settings.trials(probe.seeds)
        for trial, kimg in trials.items():
            training = self.training("finetuning", name, layout.finetuning(name, evaluator, trial), kimg)
            yield replace(training, kimg=None)  # which is no checkpoint of the experiment
        if trials and settings.only_setting is None:
            yield self.stage("finetune_lr", name, layout.finetune_lr(name, evaluator), names=(evaluator,))

    def samples(self, name: str, kimg: int, sampler: str, experiment: Experiment) -> Iterator[Stage]:
        """Samples of a checkpoint and their metrics, in one job if not all images are kept."""
        layout, names = self.layout, (kimg, sampler)
        store, strip = layout.samples(name, kimg, sampler), layout.strip(name, kimg, sampler)
        rows, paper = layout.generation(name, kimg, sampler), store_receipt(store)
        if measured_at_once(experiment):
            yield self.stage("generate", name, rows, store, paper, strip, names=names, kimg=kimg)
        else:
            yield self.stage("sample", name, store, strip, names=names, kimg=kimg, receipt_at=paper)
            if measured(experiment):
                yield self.stage("generation", name, rows, names=names, kimg=kimg)
        if experiment.generation and experiment.generation.nearest:
            files = layout.nearest(name, kimg, sampler), layout.nearest_pairs(name, kimg, sampler)
            yield self.stage("nearest", name, *files, names=names, kimg=kimg)
        if experiment.generation and experiment.generation.decodings:
            files = layout.decodings(name, kimg, sampler), layout.decodings_pictures(name, kimg, sampler)
            yield self.stage("decodings", name, *files, names=names, kimg=kimg)

    @cached_property
    def compared(self) -> set[str]:
        """The experiments whose features of a subset are needed."""
        return compared_features(self.config)

    @cached_property
    def figure_rules(self) -> dict[str, str]:
        """The rule that draws each experiment's figures."""
        return {name: figure_rule(number) for number, names in enumerate(alike(self.config)) for name in names}


def stages(config: Config) -> list[Stage]:
    """All jobs that a config asks for, each once."""
    return Graph(config).stages
