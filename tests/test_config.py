"""The config: its generated pages, its shipped files, and what becomes of mistakes."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from diffprobe.config import docs
from diffprobe.config.load import load, parse, read
from diffprobe.runtime.errors import UserError

FOLDER = Path(__file__).parents[1] / "config"
RAW = yaml.safe_load((FOLDER / "config.yaml").read_text())
RUN = "experiments.digits_edm"
LATENT = "experiments.digits_dit"
HEUN10 = f"{LATENT}.sample.samplers.heun10"
Where = tuple[str | int, ...]


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """The default config with some keys, given by their paths, set to other values (... drops the key)."""
    raw = copy.deepcopy(RAW)
    for path, value in changes.items():
        *way, last = path.split(".")
        inner = raw
        for key in way:
            inner = inner.setdefault(key, {})
        if value is ...:
            del inner[last]
        else:
            inner[last] = value
    return raw


def drawn_by(sampler: dict[str, Any], process: str = "ddpm") -> dict[str, Any]:
    """Changes that draw with a sampler of another process than the default's."""
    return {f"{LATENT}.process": {"kind": process}, f"{LATENT}.sample.samplers": {"a": sampler}}


def refusal(raw: Any) -> str:
    with pytest.raises(UserError) as caught:
        parse(raw)
    return str(caught.value)


# --- what is shipped ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text"), [("schema.json", docs.schema), ("README.md", docs.readme)])
def test_generated_files_are_up_to_date(name: str, text: Any) -> None:
    assert (FOLDER / name).read_text() == text(), f"config/{name} is stale: run `python -m diffprobe docs`"


def test_schema_agrees_with_the_models() -> None:
    """What editors accept and refuse."""
    schema = json.loads(docs.schema())
    jsonschema.validate(RAW, schema)
    with pytest.raises(jsonschema.ValidationError, match="bach"):
        jsonschema.validate(changed({f"{RUN}.train.bach": 64}), schema)


def test_docs_are_written(tmp_path: Path) -> None:
    docs.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"schema.json", "README.md"}


OVERLAYS = {
    FOLDER / f"{name}.yaml"
    for name in (
        "memorisation_full",
        "smoke",
        "smoke_dit",
        "smoke_soda",
        "local_cifar10",
        "speedrun_zips",
        "noise_classifiers",
        "smoke_noise_classifiers",
    )
}  # go after others
CONFIGS = sorted(set(FOLDER.glob("*.yaml")) - OVERLAYS)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configs_load(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_ZIP", "~/cifar10.zip")
    monkeypatch.setenv("LITE0", "~/lite0.pth")
    monkeypatch.setenv("CELEBAHQ", "~/CelebAMask-HQ")
    monkeypatch.setenv("IMAGENET", "~/imagenet")
    assert load(path).experiments


def test_config_room_imports_no_torch() -> None:
    code = "import sys, diffprobe.config.load, diffprobe.plan.layout; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- mistakes -----------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    # unknown keys
    "unknown key at the top": ({"resultz": "out"}, ["resultz: 'out'", "did you mean results?", "datasets"]),
    "unknown key in a dataset": (
        {"datasets.digits.split.tests": 0.3},
        ["datasets.digits.split.tests: 0.3", "did you mean test?"],
    ),
    "unknown key in an extractor": (
        {"extractors.digits_classifier.dims": 64},
        ["extractors.digits_classifier.dims: 64", "channels"],
    ),
    "unknown key in training": ({f"{RUN}.train.bach": 64}, [f"{RUN}.train.bach: 64", "did you mean batch?"]),
    "unknown key in the heads": (
        {f"{RUN}.probe.evaluators": {"a": {"kind": "linear", "x": 1}}},
        [f"{RUN}.probe.evaluators.a.x: 1", "epochs"],
    ),
    # missing keys
    "missing key": ({f"{RUN}.train.checkpoints": ...}, [f"{RUN}.train.checkpoints", "missing", "list of"]),
    "missing kind": ({"extractors.e": {"dims": 64}}, ["extractors.e.kind", "missing", "`inception`"]),
    # wrong types
    "text for a number": ({f"{RUN}.train.batch": "many"}, [f"{RUN}.train.batch: 'many'", "positive integer"]),
    "half an image": ({f"{RUN}.train.batch": 2.5}, [f"{RUN}.train.batch: 2.5", "positive integer"]),
    "list for a number": ({f"{RUN}.train.lr": [1]}, [f"{RUN}.train.lr: [1]", "positive number"]),
    "number for a list": ({f"{RUN}.network.multipliers": 2}, [f"{RUN}.network.multipliers: 2", "list of"]),
    "number for keys": ({"datasets": 3}, ["datasets: 3", "names, each with keys of `Dataset`"]),
    "nothing for keys": ({f"{RUN}.network": None}, [f"{RUN}.network: null", "kind: `diffusers` or `diffusers_dit` or"]),
    "text for a list of taps": ({f"{RUN}.probe.taps": "out_1"}, [f"{RUN}.probe.taps: 'out_1'", "or `all`"]),
    "number for a tap": ({f"{RUN}.probe.taps": ["mid", 3]}, [f"{RUN}.probe.taps.1: 3", "text"]),
    "not a number": ({f"{RUN}.train.lr": float("nan")}, [f"{RUN}.train.lr: nan", "positive number"]),
    "name with a slash": ({"datasets.a/b": {"source": {"kind": "digits"}}}, ["datasets.a/b", "letters, digits"]),
    "number for a name": ({f"{RUN}.dataset": 3}, [f"{RUN}.dataset: 3", "name of an entry"]),
    "text for keys": ({f"{RUN}.sample": "all"}, [f"{RUN}.sample: 'all'", "keys (samplers, images, "]),
    "nothing for a path": ({"results": None}, ["results: null is refused; allowed: path"]),
    "a path of half a character": ({"results": "\ud800"}, ["such characters occur in no path"]),
    "a path of two lines": ({"results": "a\nb"}, ["line breaks", "allowed: a path"]),
    # out of range
    "a mistyped number of blocks": ({f"{RUN}.network.blocks": 10**9}, ["positive integer up to 128"]),
    "a number of thousands of digits": ({f"{RUN}.train.seed": 1 << 20_000}, ["thousands of digits", "integer"]),
    "a network of terabytes": ({f"{RUN}.network.channels": 2**15, f"{RUN}.network.groups": 8}, ["at most 1e+11 param"]),
    "a network of a thousand blocks": ({f"{RUN}.network.blocks": 120}, ["at most 300 blocks"]),
    "negative bound": ({f"{RUN}.train.clip": -1}, [f"{RUN}.train.clip: -1", "positive number, or `null`"]),
    "level out of range": ({f"{RUN}.probe.levels": [100]}, [f"{RUN}.probe.levels: 100", "0.002 to 80"]),
    "no checkpoint": ({f"{RUN}.train.checkpoints": []}, [f"{RUN}.train.checkpoints: []", "at least one"]),
    # unknown names
    "unknown tap": ({f"{RUN}.probe.taps": ["out_9"]}, [f"{RUN}.probe.taps: 'out_9'", "in_1", "out_4"]),
    "unknown tap of a DiT": ({f"{LATENT}.probe.taps": ["attn_9"]}, ["probe.taps: 'attn_9'", "attn_3", "mlp_3"]),
    "unknown size of a DiT": ({f"{LATENT}.network.size": "M/2"}, [f"{LATENT}.network.size: 'M/2'", "`XL/2`"]),
    "two sizes of a DiT": ({f"{LATENT}.network.size": "S/2"}, ["network.size: 'S/2'", "null, for width 160, depth 4"]),
    "SiT's direction": ({f"{LATENT}.network.reversed_flow": True}, ["reversed_flow: true", "is edm and not flow"]),
    "graphs of whole steps": (
        {f"{RUN}.train.compile": "graphs", f"{RUN}.train.device_batch": 1},
        [f"{RUN}.train.compile: 'graphs'", "device_batch"],
    ),
    "no recomputation": ({f"{RUN}.train.recompute": True}, [f"{RUN}.train.recompute: true", "unet keeps"]),
    "unknown dataset": ({f"{RUN}.dataset": "cifar"}, [f"{RUN}.dataset: 'cifar'", "allowed: digits"]),
    "unknown extractor": (
        {f"{RUN}.generation.extractors": ["dino"]},
        [f"{RUN}.generation.extractors: 'dino'", "digits_classifier"],
    ),
    "more images than there are": (
        {f"{RUN}.train.images": 5000},
        [f"{RUN}.train.images: 5000", "at most 1,437, the images of train and select", "null, for all"],
    ),
    "few latents": ({f"{LATENT}.train.images": 256}, [f"{LATENT}.train.images: 256", "null", "limit the dataset"]),
    "unknown split": ({f"{RUN}.train.splits": ["test"]}, [f"{RUN}.train.splits.0: 'test'", "`select`"]),
    "unknown extractor kind": (
        {"extractors.digits_classifier.kind": "resnet"},
        [
            "extractors.digits_classifier.kind: 'resnet'",
            "`classifier` or `dinov2` or `inception` or `timm` or `torchscript`",
        ],
    ),
    "TorchScript that nobody trusts": (
        {"extractors.mine": {"kind": "torchscript", "weights": "mine.pt"}},
        ["extractors.mine.trusted: false is refused; allowed: true, if you trust the code in mine.pt"],
    ),
    "unknown network kind": ({f"{RUN}.network.kind": "mlp"}, [f"{RUN}.network.kind: 'mlp'", "`unet`"]),
    # what does not fit together
    "falling checkpoints": ({f"{RUN}.train.checkpoints": [72, 36]}, [f"{RUN}.train.checkpoints: [72, 36]"]),
    "too many halvings": (
        {f"{RUN}.network.multipliers": [1, 1, 1, 1, 1]},
        [f"{RUN}.network.multipliers: [1, 1, 1, 1, 1]", "8 pixels"],
    ),
    "groups that do not divide": ({f"{RUN}.network.groups": 5}, [f"{RUN}.network.groups: 5", "32, 96"]),
    "two levels with one name": (
        {f"{RUN}.probe.levels": [0.14, 0.14000001]},
        [f"{RUN}.probe.levels: [0.14, 0.14000001]", "six significant digits"],
    ),
    "classifier of another dataset": (
        {"datasets.other": {"source": {"kind": "digits"}}, f"{RUN}.dataset": "other"},
        [f"{RUN}.generation.extractors: 'digits_classifier'", "a classifier of other"],
    ),
    "no figure": ({f"{RUN}.generation.figures": ["fvd"]}, [f"{RUN}.generation.figures: 'fvd'", "fd, fid, sfid, kid"]),
    "FID-50K of other images": (
        {
            f"{RUN}.generation.figures": ["fid50k"],
            f"{RUN}.generation.extractors": ["i"],
            "extractors.i.kind": "inception",
        },
        [f"{RUN}.generation.figures: 'fid50k'", "fid1k, since sample.images is 1,000; or change that to 50,000"],
    ),
    "FID of a classifier": ({f"{RUN}.generation.figures": ["fid"]}, ["'fid'", "it is called fd"]),
    "another number in a subset": (
        {f"{RUN}.generation.figures": ["kid1k"], "metrics.subset": 500},
        [f"{RUN}.generation.figures: 'kid1k'", "kid500, since metrics.subset is 500"],
    ),
    "more kept than drawn": ({f"{RUN}.sample.keep_samples": 1001}, [f"{RUN}.sample.keep_samples: 1001", "1,000"]),
    "balls beyond the reference": ({"metrics.wide_neighbours": 5000}, ["metrics.wide_neighbours: 5000", "below"]),
    "too few to measure": ({f"{RUN}.sample.images": 3}, [f"{RUN}.sample.images: 3", "at least 4"]),
    "two extractors of one name": (
        {
            "extractors.e": RAW["extractors"]["digits_classifier"],
            f"{LATENT}.generation.extractors": ["e"],
        },
        [
            f"{LATENT}.generation.extractors: 'e'",
            "as classifier for digits (already used by digits_classifier)",
        ],
    ),
    "reference for nobody": (
        {"datasets.digits.references": {"nobody": "a.npz"}},
        ["datasets.digits.references.nobody: 'a.npz'", "digits_classifier"],
    ),
    "unset variable": (
        {"datasets.mine": {"source": {"kind": "folder", "path": "$NOT_THERE/x"}, "size": 32}},
        ["datasets.mine.source.path: '$NOT_THERE/x'", "$NOT_THERE is not set"],
    ),
    "folder without a size": (
        {"datasets.mine": {"source": {"kind": "folder", "path": "photos"}}},
        ["datasets.mine.size: null", "height and width"],
    ),
    "official split where there is none": (
        {"datasets.digits.split": {"kind": "official"}},
        ["datasets.digits.split.kind: 'official'", "stratified or last"],
    ),
    "unknown latents": ({f"{LATENT}.latents": "cifar"}, [f"{LATENT}.latents: 'cifar'", "latents of digits: digits_16"]),
    "unknown autoencoder": ({"latents.digits_16.autoencoder": "sd"}, ["autoencoder: 'sd'", "allowed: digits_vae"]),
    "no identity first": (
        {"latents.digits_16.views": [{"kind": "mirror"}]},
        ["latents.digits_16.views: 'mirror'", "identity as the first"],
    ),
    "batch that cuts chunks": ({"latents.digits_16.batch": 100}, ["latents.digits_16.batch: 100", "divisor of 256"]),
    "repeating by a fraction": ({"autoencoders.digits_vae.size": 12}, ["autoencoders.digits_vae.resize", "8 pixels"]),
    "too few pixels for the discriminator": (
        {"autoencoders.digits_vae.train.adversary": {"widths": [8, 8, 8, 8]}},
        ["autoencoders.digits_vae.size: 16", "at least 32, for train.adversary"],
    ),
    "too few pixels for LPIPS": (
        {"autoencoders.digits_vae.size": 8, "autoencoders.digits_vae.train.perceptual": {}},
        ["autoencoders.digits_vae.size: 8", "at least 16, for train.perceptual"],
    ),
    "batch norm of parts of a batch": (
        {"autoencoders.digits_vae.train.adversary": {}, "autoencoders.digits_vae.train.device_batch": 4},
        ["autoencoders.digits_vae.train.device_batch: 4", "norm: group"],
    ),
    "patch that does not divide": ({f"{LATENT}.network.patch": 3}, [f"{LATENT}.network.patch: 3", "divisor of 8"]),
    "heads that do not divide": ({f"{LATENT}.network.heads": 3}, [f"{LATENT}.network.heads: 3", "160"]),
    "guidance without labels": (
        {f"{LATENT}.network.conditional": False},
        [f"{LATENT}.sample.samplers.heun10.guidance: 1.5", "not conditioned on labels"],
    ),
    "steps that no stride takes": (
        drawn_by({"kind": "ddim", "spacing": "ddim", "steps": 400}),
        [f"{LATENT}.sample.samplers.a.spacing: 'ddim'", "no stride takes 400 of 1000 steps"],
    ),
    "sections of more steps than there are": (
        drawn_by({"kind": "ddim", "spacing": [400, 601]}),
        [f"{LATENT}.sample.samplers.a.steps: 1001", "at most the process's 1000 steps"],
    ),
    "a section with too few steps": (
        drawn_by({"kind": "ddim", "spacing": [10, 501]}),
        [f"{LATENT}.sample.samplers.a.spacing: [10, 501]", "at most 500 of each of 2 sections"],
    ),
    "steps that are not the sum of the sections": (
        drawn_by({"kind": "ddpm", "spacing": [10, 20], "steps": 50}),
        [f"{LATENT}.sample.samplers.a.steps: 50", "30, the sum of spacing"],
    ),
    "a last step longer than the way": (
        drawn_by({"kind": "euler_maruyama", "first_time": 0.5, "last_time": 0.6}, "flow"),
        [f"{LATENT}.sample.samplers.a.last_time: 0.6", "below first_time = 0.5"],
    ),
    "an infinite coefficient": (
        drawn_by({"kind": "euler_maruyama", "diffusion": "sbdm"}, "flow"),
        [f"{LATENT}.sample.samplers.a.first_time: 1.0", "below 1, where sbdm is infinite"],
    ),
    "steps of flow matching for another process": (
        {f"{RUN}.sample.samplers": {"a": {"kind": "euler_maruyama"}}},
        [f"{RUN}.sample.samplers.a.kind: 'euler_maruyama'", "heun, euler, for the process edm"],
    ),
    "a learned variance of a process without": (
        drawn_by({"kind": "ddpm", "variance": "learned"}),
        [f"{LATENT}.sample.samplers.a.variance: 'learned'", "large or small", "iddpm"],
    ),
    "a learned variance of a network without": (
        {f"{RUN}.process": {"kind": "iddpm"}, f"{RUN}.sample.samplers": {"a": {"kind": "ddim"}}, f"{RUN}.probe": ...},
        [f"{RUN}.process.kind: 'iddpm'", "the network unet has no second output"],
    ),
    "an interval upside down": (
        {f"{HEUN10}.guidance_interval": [2.0, 0.5]},
        [f"{HEUN10}.guidance_interval: [2.0, 0.5]", "the lower level first"],
    ),
    "an interval of three levels": (
        {f"{HEUN10}.guidance_interval": [1, 2, 3]},
        [f"{HEUN10}.guidance_interval: [1, 2, 3]"],
    ),
    "an interval without guidance": (
        {f"{HEUN10}.guidance": 1, f"{HEUN10}.guidance_interval": [0.1, 1.0]},
        [f"{HEUN10}.guidance_interval: [0.1, 1.0]", "null, since nothing is guided at guidance 1"],
    ),
    "more channels than there are": ({f"{HEUN10}.guidance_channels": 5}, ["guidance_channels: 5", "at most 4"]),
    "channels without guidance": (
        {f"{HEUN10}.guidance": 0, f"{HEUN10}.guidance_channels": 1},
        ["guidance_channels: 1", "all, since nothing is guided at guidance 0"],
    ),
    "labels beyond the classes": (
        {f"{HEUN10}.labels": [0, 9, 10]},
        [f"{HEUN10}.labels: 10", "labels from 0 to 9, the classes of digits"],
    ),
    "no labels at all": ({f"{HEUN10}.labels": []}, [f"{HEUN10}.labels: []", "at least one label"]),
    "negative labels": ({f"{HEUN10}.labels": [-1]}, [f"{HEUN10}.labels.0: -1"]),
    "labels of a network without": (
        {f"{RUN}.sample.samplers.heun12.labels": "random"},
        [f"{RUN}.sample.samplers.heun12.labels: 'random'", "not conditioned on labels"],
    ),
    # settings that would do nothing
    "a shift of EDM's levels": (
        {f"{RUN}.sample.samplers.heun12.shift": 3},
        [f"{RUN}.sample.samplers.heun12.shift: 3", "1, since edm has no such schedule"],
    ),
    "an augmentation that the network is not told": (
        {f"{RUN}.train.augment": {}, f"{RUN}.network.augment": False},
        [f"{RUN}.train.augment", "a network with `augment: true`"],
    ),
    "fine-tuning by graphs in several passes": (
        {
            f"{RUN}.train": {"checkpoints": [1], "batch": 64, "device_batch": 64, "compile": "graphs"},
            f"{RUN}.probe.evaluators": {"linear": {"kind": "linear"}, "tuned": {"kind": "finetune", "batch": 128}},
        },
        [f"{RUN}.train.compile: 'graphs'", "divides a step of", "evaluators.tuned"],
    ),
    "an inverted cosine below 0": (
        {
            f"{RUN}.process": {"kind": "ddpm", "beta_schedule": "inverted", "steps": 6435},
            f"{RUN}.sample.samplers": {"a": {"kind": "ddim"}},
            f"{RUN}.probe": ...,
        },
        [f"{RUN}.process.steps: 6435", "at most 6,434"],
    ),
    # booleans, which pydantic takes for numbers
    "true for an integer": ({f"{RUN}.train.batch": True}, [f"{RUN}.train.batch: true", "positive integer"]),
    "true in a list": ({f"{RUN}.probe.levels": [0.1, True]}, [f"{RUN}.probe.levels.1: true", "number"]),
    "nothing in a list beside a number": (
        {f"{RUN}.probe.evaluators.knn": {"kind": "knn", "temperature": [None]}},
        [f"{RUN}.probe.evaluators.knn.temperature.0: null", "positive number"],
    ),
    "false for a bound": ({f"{RUN}.train.clip": False}, [f"{RUN}.train.clip: false", "positive number"]),
}


@pytest.mark.parametrize(("changes", "fragments"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_named_in_one_line(changes: dict[str, Any], fragments: list[str]) -> None:
    line = refusal(changed(changes))
    assert len(line.splitlines()) == 1
    for fragment in fragments:
        assert fragment in line


@pytest.mark.parametrize("raw", [None, 3, "text", [], ["experiments"]])
def test_what_is_no_config_at_all(raw: Any) -> None:
    assert "is refused; allowed: keys and values" in refusal(raw)


@pytest.mark.parametrize(("written", "value"), [("1e-4", 1e-4), ("1.0e-4", 1e-4), ("1E-3", 1e-3), ("2", 2.0)])
def test_numbers_as_people_write_them(written: str, value: float) -> None:
    """PyYAML reads `1e-4` as text."""
    config = parse(changed({f"{RUN}.train.lr": yaml.safe_load(written)}))
    assert config.experiments["digits_edm"].train.lr == value


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\xff\xfe", "when: 2001-13-45"])
def test_files_that_are_no_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"bad\.yaml: not YAML") as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 1


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such config file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path)


# --- any small edit either parses or is refused -------------------------------------------------------------

FULL = parse(changed({"extractors.inception": {"kind": "inception", "dims": 64}, f"{RUN}.train.clip": 1.0})).model_dump(
    mode="json"
)  # every key that there is


def places(value: Any, where: Where = ()) -> Iterator[Where]:
    """The path of every key and item."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield (*where, step)
        yield from places(inner, (*where, step))


def at(raw: Any, where: Where) -> Any:
    for step in where:
        raw = raw[step]
    return raw


PLACES = list(places(FULL))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
KEYS = st.text(max_size=8) | st.integers() | st.booleans() | st.none() | st.sampled_from(["kind", "all", "unet"])
JUNK = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


@st.composite
def edited(draw: st.DrawFn) -> dict[str, Any]:
    """The full config after one or two edits."""
    raw = copy.deepcopy(FULL)
    for _ in range(draw(st.integers(1, 2))):
        where = draw(st.sampled_from(list(places(raw))))
        parent = at(raw, where[:-1])
        match draw(st.sampled_from(["drop", "replace", "add"])):
            case "drop":
                del parent[where[-1]]
            case "add" if isinstance(parent, dict):
                parent[draw(KEYS)] = draw(JUNK)
            case _:
                parent[where[-1]] = draw(JUNK)
        if not raw:
            break
    return raw


@given(edited())
@hypothesis_settings(max_examples=400, deadline=None)
def test_any_edit_parses_or_is_refused(raw: dict[str, Any]) -> None:
    try:
        parse(raw)
    except UserError as error:
        assert all(line.startswith("config: ") for line in str(error).splitlines())


NUMBERS = [where for where in PLACES if type(at(FULL, where)) in (int, float)]


@pytest.mark.parametrize("where", NUMBERS, ids=lambda where: ".".join(map(str, where)))
def test_no_number_may_be_a_boolean(where: Where) -> None:
    """Holds for every field, so that a new one cannot forget it."""
    raw = copy.deepcopy(FULL)
    at(raw, where[:-1])[where[-1]] = True
    assert f"{'.'.join(map(str, where))}: true is refused" in refusal(raw)


def test_later_files_are_merged_over_earlier_ones(tmp_path: Path) -> None:
    over = tmp_path / "mine.yaml"
    over.write_text("experiments: {digits_edm: {train: {lr: 5e-4}}}\nresults: elsewhere\n")
    plain, both = load(FOLDER / "config.yaml"), load(FOLDER / "config.yaml", over)
    assert both.results == "elsewhere"
    assert both.experiments["digits_edm"].train.lr == 5e-4
    assert both.experiments["digits_edm"].network == plain.experiments["digits_edm"].network


def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("results: a\ndatasets:\n  d: {size: 8}\nexperiments: {}\ndatasets:\n  e: {size: 8}\n")
    with pytest.raises(UserError) as error:
        load(path)
    assert str(error.value) == f"{path}: the key datasets stands in line 2 and again in line 5; keep one of the two"
    path.write_text("base: &base {size: 8}\nmore: &more {channels: 1}\nd: {<<: *base, <<: *more, size: 16}\n")
    assert read(path)["d"] == {"size": 16, "channels": 1}


HOSTILE = {
    "aliases of aliases": (
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n" for below, name in pairwise("abcdefghi")),
        "line 5 expands to more than 100,000 values",
    ),
    "an alias inside what it names": ("a: &a {b: [*a]}\n", "line 1: the alias a stands inside what it names"),
    "nested without end": ("a: " + "[" * 10_000, "line 1 is nested more than 50 deep"),
    "enormous": ("# nothing\n" * 200_000, "more than 1 MiB"),
    "a value of a megabyte": (f"results: {'9' * 900_000}\n", "line 1: a value of 900,000 characters"),
    "no keys": ("- a\n- b\n", "['a', 'b'] is refused; allowed: keys and values"),
    "code": ("a: !!python/object/apply:os.system [id]\n", "not YAML: line 1, column 4: could not determine a constr"),
    "a list as a key": ("? [a]\n: b\n", "line 1: a list or a mapping stands in the place of a key"),
}


@pytest.mark.parametrize(("text", "line"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_by_name_in_a_line(text: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load(FOLDER / "config.yaml", path)
    assert str(error.value).startswith(f"{path}: {line}")
    assert len(str(error.value).splitlines()) == 1


def test_of_thousands_of_mistakes_fifty_are_listed() -> None:
    listed = refusal(RAW | {"plugins": list(range(20_000))}).splitlines()
    assert len(listed) == 51
    assert listed[-1] == "config: and 19950 more"


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("# all of it commented out\n")
    default = FOLDER / "config.yaml"
    assert load(default, empty) == load(default)


def test_the_folder_of_results_is_a_path_as_in_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    assert parse(RAW | {"results": "$SCRATCH/runs"}).results == "/scratch/me/runs"
    assert parse(RAW | {"results": "~/runs"}).results == str(Path("~/runs").expanduser())
    for results, words in (("{a}/x", "a path without braces"), ("$NOT_SET/x", r"the environment variable \$NOT_SET")):
        with pytest.raises(UserError, match=f"results: .*{words}"):
            parse(RAW | {"results": results})
