"""Every job of the main job, for the target rule and for `status` alike; who asks for what."""

from dataclasses import dataclass

from diffprobe.config.autoencoders import Autoencoder
from diffprobe.config.latents import Latents
from diffprobe.config.levels import parts
from diffprobe.config.models import Config, Experiment
from diffprobe.plan.layout import DOWNLOADS, PRETRAINED, Layout, receipt, store_receipt


@dataclass(frozen=True)
class Stage:
    """One job of the main job: its rule, what it is about, what it declares to make."""

    rule: str
    subject: str  # dataset, extractor or experiment; "" for the whole
    outputs: tuple[str, ...]
    receipt: str  # "" where the output is only a presentation of others
    progress: str
    kimg: int | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All that the job declares."""
        return (*self.outputs, self.receipt) if self.receipt else self.outputs


def stages(config: Config) -> list[Stage]:
    """Every job of the main job, in the order of the data's way."""
    layout = Layout(config.results)
    out: list[Stage] = []

    def add(rule: str, subject: str, *outputs: str, of: int | None = None, names: tuple = (), **more: str) -> None:
        names = (subject, *names) if subject else ()
        progress = more.get("progress", layout.progress(rule, *names))
        paper = more["receipt"] if "receipt" in more else receipt(outputs[0])
        out.append(Stage(rule, subject, outputs, paper, progress, of))

    for name, dataset in config.datasets.items():
        if dataset.source.kind in DOWNLOADS:
            add("download", dataset.source.kind, layout.archives(dataset.source.kind))
        add("images", name, layout.images(name))
        if name in probed_datasets(config):
            add("baseline", name, layout.baseline(name))
        if name in compared_datasets(config):
            add("nearest_real", name, layout.nearest_real(name))
    for name, latents in used_latents(config).items():
        add_autoencoder(add, layout, latents.autoencoder, config.autoencoders[latents.autoencoder])
        add_latents(add, layout, name, latents)
        add("reconstruct", name, layout.reconstruction(name), layout.pairs(name))
        add("plot_reconstruction", name, layout.latents_plot(name), receipt="")
    for name, extractor in used_extractors(config).items():
        if extractor.kind == "classifier":
            add_training(add, layout, "classifier", name, layout.extractor(name), extractor.kimg)
    for dataset, extractor in references(config):
        add("reference", dataset, layout.reference(dataset, extractor), names=(extractor,))
    for name, experiment in config.experiments.items():
        add_experiment(add, layout, name, experiment, config)
    add("summary", "", layout.summary(), layout.results_table(), layout.best_table(), receipt="")
    return list(dict.fromkeys(out))  # stores may share an autoencoder, datasets a download


def add_autoencoder(add, layout: Layout, name: str, autoencoder: Autoencoder) -> None:
    if autoencoder.kind == "trained":
        add_training(add, layout, "autoencoder", name, layout.autoencoder(name), autoencoder.train.kimg)
        return
    weights = layout.autoencoder_weights(name, PRETRAINED)
    add("pretrained", name, weights, receipt=layout.checkpoint(layout.autoencoder(name), PRETRAINED, "receipt.json"))


def weights_of(config: Config, autoencoder: str) -> str:
    """The file of an autoencoder's weights."""
    found = config.autoencoders[autoencoder]
    last = found.train.kimg if found.kind == "trained" else PRETRAINED
    return Layout(config.results).autoencoder_weights(autoencoder, last)


def add_latents(add, layout: Layout, name: str, latents: Latents) -> None:
    """Parts by several jobs and what completes them, or one job that reads what others have encoded."""
    store = layout.latents(name)
    for job in range(0 if latents.imported else latents.jobs):
        add("encode", name, layout.encoded(name, job), names=(job,))
    add("import_latents" if latents.imported else "latents", name, store, receipt=store_receipt(store))


def add_experiment(add, layout: Layout, name: str, experiment: Experiment, config: Config) -> None:
    """Training, and at each checkpoint samples, their quality, features and the grid; then the outcome."""
    for kimg in experiment.train.checkpoints:
        if experiment.train.imported:
            paper = layout.checkpoint(layout.run(name), kimg, "receipt.json")
            add("imported", name, layout.ema(name, kimg), of=kimg, names=(kimg,), receipt=paper)
        else:
            add_training(add, layout, "pretrain", name, layout.run(name), kimg)
        for sampler in experiment.sample.samplers:
            add_samples(add, layout, name, kimg, sampler, experiment)
        if experiment.probe:
            for part in range(parts(experiment)):
                store = layout.features(name, kimg, part)
                kept = [store] if config.state.keep_features == "all" else []
                add("features", name, *kept, of=kimg, names=(kimg, part), receipt=receipt(store))
            add("grid", name, layout.grid(name, kimg), layout.select(name, kimg), of=kimg, names=(kimg,))
    if experiment.probe:
        store = layout.chosen(name)
        add("choice", name, layout.choice(name))
        add("chosen", name, store, receipt=store_receipt(store))
        for evaluator in experiment.probe.evaluators:
            add("evaluate", name, layout.test(name, evaluator), names=(evaluator,))
    add_plots(add, layout, name, experiment)


def add_samples(add, layout: Layout, name: str, kimg: int, sampler: str, experiment: Experiment) -> None:
    """What is drawn from a checkpoint, and what is measured of it: in one job where not all of it is kept."""
    one = {"of": kimg, "names": (kimg, sampler)}
    store, strip = layout.samples(name, kimg, sampler), layout.strip(name, kimg, sampler)
    rows = layout.generation(name, kimg, sampler)
    if measured_at_once(experiment):
        add("generate", name, rows, store, store_receipt(store), strip, **one)
    else:
        add("sample", name, store, strip, receipt=store_receipt(store), **one)
        if measured(experiment):
            add("generation", name, rows, **one)
    if experiment.generation and experiment.generation.nearest:
        add("nearest", name, layout.nearest(name, kimg, sampler), layout.nearest_pairs(name, kimg, sampler), **one)


def measured_at_once(experiment: Experiment) -> bool:
    """Whether samples are measured as they are drawn, since not all of them are kept."""
    return measured(experiment) and experiment.sample.keep_samples != "all"


def measured(experiment: Experiment) -> bool:
    """Whether any figure of generation is asked for."""
    return experiment.generation is not None and bool(experiment.generation.extractors)


def add_plots(add, layout: Layout, name: str, experiment: Experiment) -> None:
    """What the report shows of one experiment."""

    def plot(rule: str, file: str, *names: int | str) -> None:
        add(rule, name, layout.plot(name, file), names=names, receipt="")

    checkpoints, samplers = experiment.train.checkpoints, experiment.sample.samplers
    for kimg in checkpoints:
        for sampler in samplers:
            plot("plot_samples", f"samples/{kimg}.{sampler}", kimg, sampler)
            if experiment.generation and experiment.generation.nearest:
                plot("plot_nearest", f"nearest/{kimg}.{sampler}", kimg, sampler)
        if experiment.probe:
            plot("plot_grid", f"grid/{kimg}", kimg)
    for sampler in samplers:
        plot("plot_strip", f"strip/{checkpoints[-1]}.{sampler}", checkpoints[-1], sampler)
    if experiment.probe:
        plot("plot_confusion", "confusion")
    if not experiment.train.imported:
        plot("plot_losses", "losses")
    if measured(experiment) or experiment.probe:
        plot("plot_curves", "curves")


def add_training(add, layout: Layout, rule: str, subject: str, run: str, kimg: int) -> None:
    files = [layout.checkpoint(run, kimg, file) for file in ("ema.safetensors", "raw.safetensors", "stats.jsonl")]
    paper = {"receipt": layout.checkpoint(run, kimg, "receipt.json"), "progress": f"{run}/progress.json"}
    add(rule, subject, *files, of=kimg, names=(kimg,), **paper)


def probed_datasets(config: Config) -> set[str]:
    return {experiment.dataset for experiment in config.experiments.values() if experiment.probe}


def compared_datasets(config: Config) -> set[str]:
    """Those to whose images generated ones are compared one by one."""
    asked = [experiment for experiment in config.experiments.values() if experiment.generation]
    return {experiment.dataset for experiment in asked if experiment.generation.nearest}


def used_latents(config: Config) -> dict[str, Latents]:
    """The stores of latents that some experiment asks for."""
    names = {experiment.latents for experiment in config.experiments.values()}
    return {name: latents for name, latents in config.latents.items() if name in names}


def references(config: Config) -> list[tuple[str, str]]:
    """Each dataset and extractor by which some experiment's samples are measured."""
    measured = [experiment for experiment in config.experiments.values() if experiment.generation]
    return sorted({(experiment.dataset, name) for experiment in measured for name in experiment.generation.extractors})


def reconstructing(config: Config, latents: str) -> list[str]:
    """The extractors by which samples of experiments on a store's dataset are measured."""
    return [name for dataset, name in references(config) if dataset == config.latents[latents].dataset]


def used_extractors(config: Config) -> dict:
    """The extractors that some experiment asks for."""
    names = {extractor for _, extractor in references(config)}
    return {name: extractor for name, extractor in config.extractors.items() if name in names}
