"""Segmentation: what a pixel's features are, the networks and their vote, IoU, against plain implementations; the job;
what a config may not ask.
"""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toy_soda
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.lib.stride_tricks import sliding_window_view
from scipy import stats
from sklearn.metrics import confusion_matrix, jaccard_score
from test_masks import stored
from torch import Tensor, nn
from toy_probing import EXPERIMENT, PROBE, call

from diffprobe.config.built import parse_network
from diffprobe.config.evaluators.dense import Dense
from diffprobe.config.load import parse
from diffprobe.config.views import Crop
from diffprobe.data import images
from diffprobe.data.hdf5 import open_store
from diffprobe.data.masks import gather
from diffprobe.evaluation.representation import dense
from diffprobe.evaluation.representation.dense import Networks, few_pixels, fit, labelled, majority
from diffprobe.evaluation.representation.inputs import augmented_copy, mask_copy
from diffprobe.evaluation.representation.pixels import FeatureMaps, Neighbourhoods
from diffprobe.networks.build import build
from diffprobe.plan import probe_job_arguments
from diffprobe.reporting import mask_pictures
from diffprobe.runtime.errors import UserError
from diffprobe.training import checkpoints

DIT = {"kind": "dit", "width": 8, "depth": 2, "heads": 2, "patch": 2}
DENSE = {"kind": "dense", "images": 10, "repeats": 2, "networks": 3, "hidden": [8, 4], "steps": 150, "lr": 0.01}
FOREGROUND = {"kind": "threshold", "levels": [100]}
ROW = {"experiment": "toy", "dataset": "digits"}


def raw(evaluator: dict[str, Any], masks: dict[str, Any] | None = FOREGROUND, **changes: Any) -> dict[str, Any]:
    """The toy experiment with an evaluator `dense` beside its linear one."""
    evaluators = {"linear": PROBE["evaluators"]["linear"], "dense": DENSE | evaluator}
    toy = copy.deepcopy(EXPERIMENT | {"probe": PROBE | {"taps": "all", "evaluators": evaluators}} | changes)
    return {"datasets": {"digits": {"source": {"kind": "digits"}, "masks": masks}}, "experiments": {"toy": toy}}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# --- pixels


def test_features_of_pixels_are_upsampled_maps_side_by_side() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, h, w, c, generator=generator) for h, w, c in ((1, 1, 2), (4, 4, 3), (5, 7, 2), (28, 28, 1))]
    upsampled = [F.interpolate(each.movedim(3, 1), size=(28, 28), mode="bilinear") for each in maps]
    expected = torch.cat(upsampled, 1).movedim(1, 3)  # (3, 28, 28, 8)
    places = torch.arange(3 * 28 * 28)
    seen = FeatureMaps(maps, 28).at(places)
    assert torch.allclose(seen, expected.flatten(0, 2), atol=1e-6)
    some = torch.randint(0, len(places), (2, 5), generator=generator)
    assert torch.equal(FeatureMaps(maps, 28).at(some), seen[some])


def test_neighbourhoods_are_windows_with_repeated_borders() -> None:
    x = torch.randn(2, 3, 6, 6)
    windows = F.unfold(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5).unflatten(1, (3, 25))  # (2, 3, 25, 36)
    expected = windows.permute(0, 3, 2, 1).flatten(0, 1).flatten(1)  # (72, 25 * 3)
    assert torch.equal(Neighbourhoods(x, 5).at(torch.arange(72)), expected)


@pytest.mark.parametrize("fill", ["zero", "edge"])
def test_a_mask_moves_as_its_image(fill: str) -> None:
    """The mask of a moved image is the moved mask; what came in from outside is of no known class."""
    pixels = torch.randint(1, 256, (40, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    rows, by = torch.arange(40), Crop(pad=2, fill=fill)
    moved = mask_copy((pixels[..., 0] > 127).long(), rows, 3, 1, by)
    seen = augmented_copy(pixels, rows, 3, 1, by)[:, 0]  # (40, 8, 8) in [-1, 1], outside -1
    outside = seen == -1
    assert torch.equal(moved == -1, outside)
    assert outside.any() == (fill == "zero")
    assert torch.equal(moved[~outside] == 1, seen[~outside] > 0)


# --- networks


def plain(networks: Networks, member: int) -> nn.Sequential:
    """One of the networks, of PyTorch's own layers."""
    layers: list[nn.Module] = []
    for i, (weight, bias) in enumerate(zip(networks.weights, networks.biases, strict=True)):
        layer = nn.Linear(*weight.shape[1:])
        layer.weight.data, layer.bias.data = weight[member].detach().mT.clone(), bias[member, 0].detach().clone()
        norm = nn.BatchNorm1d(weight.shape[2])
        layers += [layer, nn.ReLU(), norm] if i < 2 else [layer]
    return nn.Sequential(*layers)


def test_networks_are_trained_as_each_alone() -> None:
    networks, x = Networks(3, (5, 8, 4, 2), 0), torch.randn(3, 16, 5)
    y = torch.randint(0, 2, (3, 16))
    alone = [plain(networks, member) for member in range(3)]
    together = torch.optim.SGD(networks.parameters(), lr=0.1)
    apart = torch.optim.SGD([p for network in alone for p in network.parameters()], lr=0.1)
    for _ in range(3):
        for optimizer, logits in ((together, networks(x)), (apart, torch.stack([f(a) for f, a in zip(alone, x)]))):  # noqa: B905
            optimizer.zero_grad()
            F.cross_entropy(logits.flatten(0, 1), y.flatten()).backward()
            optimizer.step()
    networks.eval()
    expected = torch.stack([f.eval()(a) for f, a in zip(alone, x, strict=True)])
    assert torch.allclose(networks(x), expected, atol=1e-4)


def test_the_majority_decides_and_of_equals_the_lowest() -> None:
    votes = torch.randint(0, 4, (7, 500))
    assert np.array_equal(majority(votes, 4), stats.mode(votes.numpy(), axis=0).mode)


def test_iou_is_that_of_scikit_learn() -> None:
    truth, predicted = torch.randint(0, 4, (2000,)), torch.randint(0, 5, (2000,))
    truth[:300] = -1
    counts = dense.confusion(truth, predicted, 6)  # class 4 is only said, class 5 neither said nor there
    known = truth >= 0
    assert np.array_equal(counts, confusion_matrix(truth[known], predicted[known], labels=range(6)))
    iou = dense.intersection_over_union(counts)
    assert iou[4:].isnan().all()
    expected = jaccard_score(truth[known], predicted[known], labels=range(4), average=None)
    assert np.allclose(iou[:4], expected)
    assert iou.nanmean().item() == pytest.approx(expected.mean())


class Vectors:
    """Pixels with given vectors (n, D)."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def at(self, places: Tensor) -> Tensor:
        return self.x[places]


def test_networks_learn_what_one_layer_cannot_and_never_see_unknown_pixels() -> None:
    """XOR of two channels, whose units differ a thousandfold; unknown pixels are NaN."""
    x = torch.randn(4 * 64, 2)
    truth = (x[:, 0] > 0).long() ^ (x[:, 1] > 0).long()
    truth[::7], unknown = -1, x.clone()
    unknown[::7] = torch.nan
    segmenter = fit(
        Dense(**DENSE | {"steps": 400}), Vectors(unknown * torch.tensor([1e-3, 1.0])), truth.view(4, 8, 8), 2, 0
    )
    known = truth != -1
    right = segmenter.classes(x * torch.tensor([1e-3, 1.0])) == truth
    assert right[known].float().mean() > 0.93
    with pytest.raises(UserError, match="no two pixels of a known class"):
        fit(Dense(**DENSE), Vectors(x), torch.full((4, 8, 8), -1), 2, 0)


def test_few_images_are_among_more_and_differ_by_repeat() -> None:
    few, more, other = labelled(100, 5, 0), labelled(100, 20, 0), labelled(100, 20, 1)
    assert set(few.tolist()) < set(more.tolist()) != set(other.tolist())
    with pytest.raises(UserError, match="21 labelled images asked for, but train has 20"):
        labelled(20, 21, 0)


# --- the job


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"source": {"kind": "digits"}, "masks": FOREGROUND, "per_class": 20}
    return stored(tmp_path_factory.mktemp("dense"), settings)


def segmented(
    folder: Path, pictures: Path, tap: str = "out_4", weights: Path | None = None, batch: int = 64, **evaluator: Any
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The results of the job on random weights: the rows' file, and the pictures."""
    network = DIT if tap.startswith("block") else EXPERIMENT["network"]
    toy = parse(raw(evaluator, network=network)).experiments["toy"]
    if weights is None:
        torch.manual_seed(0)
        shape = {"image_channels": 1} | ({"out_channels": 1} if network is DIT else {})
        module = build(parse_network(network), **shape)
        for parameter in module.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        header = {"network": network, "process": {"kind": "edm"}, "shape": shape, "image": [1, 8, 8]}
        weights = folder / "ema.safetensors"
        checkpoints.write(weights, {"ema": module.state_dict()}, header)
    choice = {"kimg": 1, "tap": tap, "level": "0.1", "sigma": 0.1, "scorer": "linear", "setting": {}}
    if tap == "z":
        choice |= {"level": "clean", "sigma": 0.0}
    (folder / "choice.json").write_text(json.dumps(choice))
    inputs = {"choice": folder / "choice.json", "images": pictures, "data": pictures, "weights.0": weights}
    outputs = {"rows": folder / "dense.json", "pictures": folder / "dense.npz", "receipt": folder / "r.json"}
    call("dense", probe_job_arguments.dense(toy, "dense", ROW), inputs, outputs, folder, batch=batch)
    return json.loads(outputs["rows"].read_text()), dict(np.load(outputs["pictures"]))


@pytest.mark.parametrize(("tap", "other"), [("out_4", "mid"), ("block_0", "block_1")])
def test_foreground_is_found_by_a_unet_and_a_dit(tmp_path: Path, pictures: Path, tap: str, other: str) -> None:
    result, shown = segmented(tmp_path, pictures, tap, combine=[{"tap": other, "level": 0.5}])
    row, baseline = result["rows"]
    assert (row["evaluator"], row["tap"], row["sigma"], row["images"], row["seeds"]) == ("dense_miou", tap, 0.1, 10, 2)
    assert baseline["evaluator"] == "dense_pixels_miou"
    assert row["split"] == baseline["split"] == "test"
    assert baseline["value"] > 0.9  # brightness alone tells
    assert 0.5 < row["value"] < 1
    assert row["value"] == pytest.approx(np.mean(result["dense_miou"]["miou"]))
    assert row["spread"] == pytest.approx(np.std(result["dense_miou"]["miou"], ddof=1))
    rows = images.read(pictures, ["test"]).rows[:8]
    with open_store(pictures) as file:
        assert np.array_equal(shown["truth"], gather(file, rows))
        assert np.array_equal(shown["images"], images.gather(file, rows))
    assert (shown["predicted_pixels"] == shown["truth"]).mean() > 0.95
    assert (shown["predicted_"] == shown["truth"]).mean() > 0.7


def test_results_depend_on_no_batch(tmp_path: Path, pictures: Path) -> None:
    """With augmented copies too, which are other images to fit on."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    few, many = (segmented(tmp_path / x, pictures, batch=n, augmented=1)[0]["rows"] for x, n in (("a", 7), ("b", 64)))
    assert [row["value"] for row in few] == pytest.approx([row["value"] for row in many], abs=1e-3)
    assert few[0]["views"] == 1


def test_a_tap_without_positions_is_refused(tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        segmented(tmp_path, pictures, "z", toy_soda.checkpoint(tmp_path / "soda.safetensors"))
    assert "dense: the tap z is a vector, without positions; set `at` to another" in capsys.readouterr().err


class Bytes:
    """Maps of 800 bytes for each image."""

    def maps(self, split: str, part: slice, draw: int = 0, augmented: bool = False) -> list[Tensor]:
        assert augmented == (draw > 0)
        return [torch.full((1, 10, 10, 2), part.start + 100.0 * draw)]

    def pixels(self, maps: list[Tensor]) -> Vectors:
        return Vectors(maps[0][:, 0, 0, 0])


def test_labelled_images_are_held_within_the_memory() -> None:
    """Each, then the first copy of each, and so on; no more than fit."""
    places = torch.tensor([3, 5])
    held = few_pixels(Bytes(), places, augmented=2, memory=4800)
    assert held.x.tolist() == [3, 5, 103, 105, 203, 205]
    with pytest.raises(
        UserError, match=r"maps of 6 labelled images take 0\.0 GiB; set fewer `images`, copies or cells"
    ):
        few_pixels(Bytes(), places, augmented=2, memory=4799)


def test_a_picture_has_the_colour_of_each_pixel() -> None:
    colours = mask_pictures.palette(20)
    assert len(np.unique(colours, axis=0)) == 21  # 20 classes, and white for unknown
    truth = np.array([[[0, 1], [2, -1]]])
    shown = {"images": np.full((1, 2, 2, 1), 9, np.uint8), "truth": truth, "predicted_": truth.clip(0)}
    figure = mask_pictures.masks({"dense": shown | {"classes": np.array(["back", "a", "b"])}}, scale=4, dpi=100)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3]
    expected = [np.full((2, 2, 3), 9), *(mask_pictures.palette(3)[mask[0]] for mask in (truth, truth.clip(0)))]
    found = sliding_window_view(drawn, (28, 8, 3))[:, :, 0]  # three pictures of 8 x 8 pixels, 2 between them
    rows = [found[..., 10 * i : 10 * i + 8, :, :][..., ::4, ::4, :] for i in range(3)]
    assert np.logical_and.reduce([(row == one).all((2, 3, 4)) for row, one in zip(rows, expected, strict=True)]).any()


# --- the config


@pytest.mark.parametrize(
    ("evaluator", "masks", "said"),
    [
        ({}, None, r"dense\.kind: 'dense' is refused; allowed: another kind, or a dataset with masks"),
        ({"images": 5000}, FOREGROUND, r"dense\.images: 5000 is refused; allowed: at most the images of train"),
        ({"levels": "all"}, FOREGROUND, r"dense\.levels: 'all' is refused; allowed: its default"),
        ({"tokens": True}, FOREGROUND, r"dense\.tokens: "),
        ({"neighbourhood": 4}, FOREGROUND, r"dense\.neighbourhood: 4 is refused; allowed: an odd number"),
        ({"at": {"tap": "nowhere"}}, FOREGROUND, r"dense\.at\.tap: 'nowhere' is refused; allowed: in_1"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(evaluator: dict[str, Any], masks: dict[str, Any] | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(raw(evaluator, masks))
