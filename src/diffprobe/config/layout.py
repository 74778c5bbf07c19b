"""Where everything lies: each path of the workflow has its one place here, for the rules and for `status` alike.

Arguments may be Snakemake wildcards ("{experiment}") or values.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

from diffprobe.config.models import Config, Experiment

EMA = "ema"  # the weights that are evaluated: the moving average


def receipt(path: str) -> str:
    """The receipt beside a result."""
    return str(PurePosixPath(path).with_suffix(".receipt.json"))


@dataclass(frozen=True)
class Layout:
    root: str

    # --- data
    def images(self, dataset: str) -> str:
        return f"{self.root}/data/{dataset}/images.h5"

    def baseline(self, dataset: str) -> str:
        return f"{self.root}/data/{dataset}/baseline.json"

    def reference(self, dataset: str, extractor: str) -> str:
        return f"{self.root}/data/{dataset}/reference/{extractor}.npz"

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
        return f"{self.run(experiment)}/samples/{EMA}/{kimg}/{sampler}.npz"

    def strip(self, experiment: str, kimg: int | str, sampler: str) -> str:
        return f"{self.run(experiment)}/samples/{EMA}/{kimg}/{sampler}.strip.npz"

    def generation(self, experiment: str, kimg: int | str, sampler: str) -> str:
        return f"{self.run(experiment)}/generation/{EMA}/{kimg}/{sampler}.json"

    def features(self, experiment: str, kimg: int | str) -> str:
        """The store's mark of completeness, written last."""
        return f"{self.run(experiment)}/features/{EMA}/{kimg}.zarr/zarr.json"

    def grid(self, experiment: str, kimg: int | str) -> str:
        return f"{self.run(experiment)}/probe/{EMA}/{kimg}/grid.csv"

    def select(self, experiment: str, kimg: int | str) -> str:
        return f"{self.run(experiment)}/probe/{EMA}/{kimg}/select.json"

    # --- the outcome
    def choice(self, experiment: str) -> str:
        return f"{self.run(experiment)}/probe/choice.json"

    def test(self, experiment: str) -> str:
        return f"{self.run(experiment)}/probe/test.json"

    def plot(self, experiment: str, name: str) -> str:
        return f"{self.run(experiment)}/plots/{name}.png"

    def summary(self) -> str:
        return f"{self.root}/summary.csv"

    def results_table(self) -> str:
        return f"{self.root}/results.csv"

    def report(self) -> str:
        return f"{self.root}/report.html"

    # --- what jobs leave besides
    def log(self, rule: str, *names: int | str) -> str:
        return f"{self.root}/logs/{rule}/{'.'.join(map(str, names)) or 'all'}.log"

    def benchmark(self, rule: str, *names: int | str) -> str:
        return f"{self.root}/benchmarks/{rule}/{'.'.join(map(str, names)) or 'all'}.jsonl"

    def progress(self, rule: str, *names: int | str) -> str:
        return self.log(rule, *names).removesuffix(".log") + ".json"


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
        out.append(Stage(rule, subject, outputs, more.get("receipt", receipt(outputs[0])), progress, of))

    for name in config.datasets:
        add("images", name, layout.images(name))
        add("baseline", name, layout.baseline(name))
    for name, extractor in used_extractors(config).items():
        if extractor.kind == "classifier":
            add_training(add, layout, "classifier", name, layout.extractor(name), extractor.kimg)
    for dataset, extractor in sorted({(e.dataset, e.generation.extractor) for e in config.experiments.values()}):
        add("reference", dataset, layout.reference(dataset, extractor), names=(extractor,))
    for name, experiment in config.experiments.items():
        for kimg in experiment.train.checkpoints:
            add_training(add, layout, "pretrain", name, layout.run(name), kimg)
            for sampler in experiment.sample.samplers:
                files = layout.samples(name, kimg, sampler), layout.strip(name, kimg, sampler)
                add("sample", name, *files, of=kimg, names=(kimg, sampler))
                add("generation", name, layout.generation(name, kimg, sampler), of=kimg, names=(kimg, sampler))
            add(
                "features",
                name,
                layout.features(name, kimg),
                of=kimg,
                names=(kimg,),
                receipt=features_receipt(layout, name, kimg),
            )
            add("grid", name, layout.grid(name, kimg), layout.select(name, kimg), of=kimg, names=(kimg,))
        add("choice", name, layout.choice(name))
        add("test", name, layout.test(name))
        add_plots(add, layout, name, experiment)
    add("summary", "", layout.summary(), layout.results_table(), receipt="")
    return out


def add_plots(add, layout: Layout, name: str, experiment: Experiment) -> None:
    """What the report shows of one experiment."""
    last = experiment.train.checkpoints[-1]
    for kimg in experiment.train.checkpoints:
        for sampler in experiment.sample.samplers:
            add(
                "plot_samples",
                name,
                layout.plot(name, f"samples/{kimg}.{sampler}"),
                names=(kimg, sampler),
                receipt="",
            )
        add("plot_grid", name, layout.plot(name, f"grid/{kimg}"), names=(kimg,), receipt="")
    for sampler in experiment.sample.samplers:
        add(
            "plot_strip",
            name,
            layout.plot(name, f"strip/{last}.{sampler}"),
            names=(last, sampler),
            receipt="",
        )
    add("plot_losses", name, layout.plot(name, "losses"), receipt="")
    add("plot_curves", name, layout.plot(name, "curves"), receipt="")


def add_training(add, layout: Layout, rule: str, subject: str, run: str, kimg: int) -> None:
    files = [layout.checkpoint(run, kimg, file) for file in ("ema.safetensors", "raw.safetensors", "stats.jsonl")]
    paper = {"receipt": layout.checkpoint(run, kimg, "receipt.json"), "progress": f"{run}/progress.json"}
    add(rule, subject, *files, of=kimg, names=(kimg,), **paper)


def features_receipt(layout: Layout, experiment: str, kimg: int | str) -> str:
    """A store is a folder, so its receipt lies beside the folder."""
    return str(PurePosixPath(layout.features(experiment, kimg)).parent) + ".receipt.json"


def used_extractors(config: Config) -> dict:
    """The extractors that some experiment asks for."""
    names = {experiment.generation.extractor for experiment in config.experiments.values()}
    return {name: extractor for name, extractor in config.extractors.items() if name in names}
