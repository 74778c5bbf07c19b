"""The JSON argument of each job that computes features or fits something on them (see `job_arguments`)."""

from diffprobe.config import levels
from diffprobe.config.evaluators import Evaluator
from diffprobe.config.models import Config, Experiment
from diffprobe.config.probing import Probe
from diffprobe.plan.job_arguments import Argument, Identity, averaged, dump, extractor, latents, plain_training, row
from diffprobe.plan.uses import finetune_of
from diffprobe.runtime.files import digest


def probe_of(experiment: Experiment) -> Probe:
    """The probe of an experiment that has one."""
    assert experiment.probe is not None
    return experiment.probe


def selection_splits(experiment: Experiment) -> Argument:
    """The splits that heads are fitted on before the choice, and the split that scores them."""
    if probe_of(experiment).selection == "published":
        return {"fit": ["train", "select"], "read": "test"}
    return {"fit": ["train"], "read": "select"}


def extraction(experiment: Experiment) -> Argument:
    """How features are computed, in every job that computes any."""
    probe = probe_of(experiment)
    copies = probe.model_dump(mode="json", include={"augmented", "draws", "view", "mirrored"})
    return unaugmented(experiment) | copies | {"crop": dump(probe.crop)}


def unaugmented(experiment: Experiment) -> Argument:
    """How features of images as they are are computed."""
    names = {"pooling", "label", "code", "input", "zeroed", "precision", "noise_seed", "latents_as"}
    probe = probe_of(experiment)
    weights = {"weights": averaged(experiment, probe.weights)}
    return probe.model_dump(mode="json", include=names) | weights


def features(experiment: Experiment, part: int) -> Argument:
    """Levels of one part of a grid, or a search. `plain`: whether unaugmented training images are needed too."""
    probe = probe_of(experiment)
    plain = any(evaluator.fitted_on == "plain" for evaluator in probe.heads.values())
    common = extraction(experiment) | selection_splits(experiment) | grid_taps(experiment) | {"plain": plain}
    if probe.search:
        ends = {name: levels.ratio(getattr(probe.search, name), experiment) for name in ("low", "high")}
        search = probe.search.model_dump(mode="json", include={"coarse", "rounds", "keep"})
        return common | {"levels": search | ends, "memory": memory_bytes(experiment)}
    each = probe.levels_per_job or len(probe.levels)
    grid = levels.grid_levels(experiment) or []  # sigma/alpha, so that a level's notation triggers no rerun
    return common | {"levels": grid[part * each : (part + 1) * each]}


def subset(experiment: Experiment) -> Argument:
    """Features of the cells of a grid for `probe.subset`, in two copies. The levels of a search are in the grid."""
    images = probe_of(experiment).subset
    copies: Argument = {
        "fit": [],
        "read": images.split,
        "images": images.images,
        "plain": False,
        "augmented": 0,
        "draws": 2,
    }
    return unaugmented(experiment) | grid_taps(experiment) | copies | {"levels": levels.grid_levels(experiment) or []}


def grid_taps(experiment: Experiment) -> Argument:
    """The taps of the grid; those at the level `clean` once more, where there are any."""
    clean = [tap for tap in experiment.probed_taps if tap in experiment.clean_taps]
    return {"taps": experiment.probed_taps} | ({"clean_taps": clean} if clean else {})


def memory_bytes(experiment: Experiment) -> int:
    return round(probe_of(experiment).memory_gib * 2**30)


def evaluators(experiment: Experiment) -> dict[str, Argument]:
    """Evaluators of stored features by name."""
    return {name: evaluator_argument(evaluator, experiment) for name, evaluator in probe_of(experiment).heads.items()}


def evaluator_argument(evaluator: Evaluator, experiment: Experiment) -> Argument:
    """An evaluator with the levels that it names as sigma/alpha."""
    return dump(evaluator) | named_cells(evaluator, experiment)


def named_cells(evaluator: Evaluator, experiment: Experiment) -> Argument:
    by_level = levels.by_level(evaluator, experiment)
    each = {"levels": by_level} | evaluator.at_levels(by_level, experiment.process) if by_level else {}
    combined = {"combine": [levels.joined(cell, experiment) for cell in evaluator.combine]}
    return combined | cell_of(evaluator, experiment) | each


def cell_of(evaluator: Evaluator, experiment: Experiment) -> Argument:
    """The cell that it names in place of the chosen one."""
    return {"at": levels.joined(evaluator.at, experiment)} if evaluator.at else {}


def monitors(experiment: Experiment, row: Identity) -> Argument:
    """`features` is a hash of the settings of the store, which is temporary and so cannot trigger a rerun."""
    probe = probe_of(experiment)
    settings = [dump(monitor) for monitor in probe.monitors]
    return watched(experiment, row) | {"monitors": settings, "features": digest(subset(experiment))}


def watched(experiment: Experiment, row: Identity) -> Argument:
    """Columns of rows of the features of a subset, and its cells."""
    columns = {
        name: value for name, value in about(experiment).items() if name not in ("selection", "views", "mirrored")
    }
    split = probe_of(experiment).subset.split
    return {"row": row | {"split": split}, "about": columns} | grid_taps(experiment)


def foreign(config: Config, name: str, subset: str) -> Argument:
    """The features of an extractor; `subset` by its name."""
    settings = next(e.probe.subset for e in config.experiments.values() if e.probe and e.probe.subset.name == subset)
    return {"extractor": extractor(config, name), **dump(settings)}


def similarity(config: Config, name: str) -> Argument:
    """Maps of similarity. `features` is a hash of the settings of all stores, which are temporary."""
    experiment = config.experiments[name]
    settings = probe_of(experiment).similarity
    assert settings is not None
    others = {other: config.experiments[other] for other in settings.experiments}
    checkpoints = experiment.train.checkpoints
    return watched(experiment, row(experiment, name)) | {
        "checkpoints": checkpoints,
        "mapped": checkpoints if settings.checkpoints == "all" else checkpoints[-1:],
        "neighbours": settings.neighbours,
        "memory": memory_bytes(experiment),
        "others": {other: {"checkpoints": e.train.checkpoints, **grid_taps(e)} for other, e in others.items()},
        "features": digest([subset(e) for e in (experiment, *others.values())]),
    }


def pictures(experiment: Experiment) -> Argument:
    """Pictures of the chosen features, and of others at the same level."""
    settings = probe_of(experiment).pictures
    assert settings is not None
    computed = unaugmented(experiment) | {"augmented": 0, "draws": 1}
    return computed | grid_taps(experiment) | {"checkpoints": experiment.train.checkpoints} | dump(settings)


def about(experiment: Experiment) -> Argument:
    """Columns of results that describe the features."""
    probe = probe_of(experiment)
    label = "" if probe.label is None else str(probe.label)
    zeroed = {"zeroed": "+".join(probe.zeroed)} if probe.zeroed else {}
    shown = {"input": probe.input} if probe.input != "noisy" else {}
    mirrored = {"mirrored": True} if probe.mirrored else {}
    return {
        "selection": probe.selection,
        "pooling": probe.pooling,
        "views": probe.augmented,
        "label": label,
        **mirrored,
        **shown,
        **zeroed,
    }


def probing(experiment: Experiment, row: Identity) -> Argument:
    """How heads are fitted and scored."""
    probe = probe_of(experiment)
    settings = {"seeds": probe.seeds, "memory": memory_bytes(experiment), "augmented": probe.augmented}
    return {"row": row, "about": about(experiment)} | settings | selection_splits(experiment)


def grid(experiment: Experiment, row: Identity) -> Argument:
    """`features` is a hash of the settings of feature stores, which are temporary and so cannot trigger a rerun."""
    selection = probe_of(experiment).selection
    heads = {
        "evaluators": evaluators(experiment),
        "scorer": probe_of(experiment).scoring,
        **grid_taps(experiment),
    }
    stores = [features(experiment, part) for part in range(levels.parts(experiment))]
    chosen_by = {"selection": selection, "split": selection, "features": digest(stores)}
    return probing(experiment, row) | heads | chosen_by


def chosen(experiment: Experiment) -> Argument:
    """Features of the chosen cell. `sigmas` are the levels that evaluators join to it."""
    cells: list[Argument] = []
    named: list[Argument] = []
    for evaluator in probe_of(experiment).heads.values():
        cell = named_cells(evaluator, experiment) | {"tokens": evaluator.tokens}
        cells += [cell] if cell not in cells else []  # evaluators often share features
        named += [levels.joined(each, experiment) for each in evaluator.named_cells]
        named += [{"sigma": level} for level in levels.by_level(evaluator, experiment)]
    sigmas = sorted({cell["sigma"] for cell in named if cell["sigma"] is not None})
    when = {"seeds": probe_of(experiment).seeds, "checkpoints": experiment.train.checkpoints}
    return extraction(experiment) | {"evaluators": cells, "sigmas": sigmas} | when


def evaluate(experiment: Experiment, name: str, row: Identity) -> Argument:
    probe = probe_of(experiment)
    evaluator = evaluator_argument(probe.evaluators[name], experiment)
    return probing(experiment, row) | {"name": name, "evaluator": evaluator, "draws": probe.draws}


def transfer(experiment: Experiment, dataset: str, name: str, row: Identity) -> Argument:
    """The same on another dataset's features. Its name is another, so that its setting is chosen anew."""
    other: Identity = {**row, "dataset": dataset}
    return evaluate(experiment, name, other) | {"name": f"{dataset}_{name}"}


def extractor_probe(config: Config, experiment: Experiment, extractor: str, name: str, row: Identity) -> Argument:
    """The same on an extractor's features of images that are not augmented."""
    probe = probe_of(experiment)
    columns = {"row": {**row, "extractor": config.extractors[extractor].printed_name}}
    about = {"about": {"selection": probe.selection, "views": 0}}
    return evaluate(experiment, name, row) | {"name": f"{extractor}_{name}", "augmented": 0} | columns | about


def extracted(config: Config, name: str) -> Argument:
    """Features of a dataset by an extractor."""
    return {"name": name, "extractor": extractor(config, name)}


OF_SCORES = {"lr", "at", "average", "combine", "tokens"}  # settings of fine-tuning that are not those of a run


def finetuning(config: Config, experiment: Experiment, name: str, trial: str) -> Argument:
    """A training run of fine-tuning: of a learning rate, to choose among several, or of a seed, for `test`."""
    probe, evaluator = probe_of(experiment), finetune_of(experiment, name)
    if trial in evaluator.rates:
        splits = selection_splits(experiment)["fit"]
        run: Argument = {"lr": evaluator.rates[trial], "seed": probe.seeds[0], "splits": splits}
    else:
        # Without a rate where the input `setting` has the best of several.
        lr: Argument = {} if evaluator.rates else {"lr": evaluator.lr[0]}
        run = lr | {"seed": evaluator.repeats(probe.seeds)[trial], "splits": ["train", "select"]}
    train = {key: value for key, value in plain_training(evaluator.training).items() if key != "lr"} | run
    argument: Argument = {
        "task": "finetuning",
        "network": experiment.network.argument(),
        "process": dump(experiment.process),
    }
    if experiment.task.model:
        argument["model_task"] = dump(experiment.task)
    if experiment.latents is not None:
        argument["latents"] = latents(config, experiment.latents)
        train["latents_as"] = probe.latents_as
    argument |= {"weights": probe.weights, "checkpoints": experiment.train.checkpoints}
    argument |= {"lowest": experiment.process.level_range[0], **cell_of(evaluator, experiment)}
    argument |= probe.model_dump(mode="json", include={"pooling", "label", "code", "zeroed"})
    settings = evaluator.model_dump(mode="json", exclude=OF_SCORES | evaluator.training.keys())
    return argument | {"evaluator": settings, "train": train}


def finetuned(experiment: Experiment, name: str, row: Identity, choosing: bool) -> Argument:
    """The scores of its runs: of one for each learning rate, or of one for each seed on `test`."""
    probe, evaluator = probe_of(experiment), finetune_of(experiment, name)
    read = selection_splits(experiment)["read"] if choosing else "test"
    scored = {"read": read, "split": probe.selection if choosing else "test"}
    runs = {"choosing": choosing, "rates": evaluator.lr, "seeds": probe.seeds}
    draws = probe.model_dump(mode="json", include={"draws", "noise_seed", "latents_as", "precision"})
    # It has an input and views of its own.
    shown = {key: value for key, value in about(experiment).items() if key not in ("input", "mirrored")}
    columns: Argument = {"row": row, "about": shown | {"views": 0}}
    head = {"name": name, "average": evaluator.average, **cell_of(evaluator, experiment)}
    return columns | scored | runs | draws | head


def dense(experiment: Experiment, name: str, row: Identity) -> Argument:
    """Segmentation by features of the chosen cell, or of those that the evaluator names."""
    probe = probe_of(experiment)
    copies = {"augmented": 0, "draws": 1, "crop": dump(probe.crop)}
    columns = {key: value for key, value in about(experiment).items() if key not in ("pooling", "mirrored")}
    head = {"name": name, "row": row, "about": columns, "memory": memory_bytes(experiment)}
    evaluator = {"evaluator": evaluator_argument(probe.evaluators[name], experiment)}
    return unaugmented(experiment) | copies | head | evaluator | {"checkpoints": experiment.train.checkpoints}
