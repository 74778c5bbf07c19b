"""Pictures of features: principal components, planes of images, and the jobs that make and draw them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from toy_probing import EXPERIMENT, PROBE, call, chain, experiment

from diffprobe.config.load import parse
from diffprobe.data import images
from diffprobe.evaluation import model
from diffprobe.evaluation.representation.chunks import array
from diffprobe.evaluation.representation.components import components, plane
from diffprobe.evaluation.representation.features import FeatureModel, Pass
from diffprobe.evaluation.representation.inputs import only, open_inputs, picked
from diffprobe.plan import probe_job_arguments
from diffprobe.plan.probe_arguments import PicturesArgument
from diffprobe.reporting.feature_plots import scaled
from diffprobe.runtime.errors import UserError

PICTURES = {"images": 12, "points": 60, "perplexity": 10}


@pytest.mark.parametrize("shape", [(200, 7), (5, 40), (40, 2)])
def test_components_are_those_of_the_singular_value_decomposition(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(3, np.geomspace(5, 0.1, shape[1]), shape)
    found = components(x, 3)
    u, s, vh = np.linalg.svd(x - x.mean(0), full_matrices=False)
    kept = min(3, shape[1])
    signs = np.sign([row[np.abs(row).argmax()] for row in vh[:kept]])
    np.testing.assert_allclose(found.values[:, :kept], u[:, :kept] * s[:kept] * signs, atol=1e-10)
    np.testing.assert_allclose(found.shares[:kept], (s**2 / (s**2).sum())[:kept], atol=1e-12)
    assert not found.values[:, kept:].any() and not found.shares[kept:].any()


def test_one_image_twice_has_no_components() -> None:
    found = components(np.ones((2, 4)), 3)
    assert not found.values.any() and not found.shares.any()
    assert (scaled(found.values) == 0.5).all()


def test_a_plane_keeps_neighbours_and_is_the_same_each_time() -> None:
    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(centre, 1, (40, 60)) for centre in (0, 3, 6)])
    points = plane(x, 15)
    assert points.shape == (120, 2) and np.isfinite(points).all()
    assert (plane(x, 15) == points).all()
    nearest = np.linalg.norm(points[:, None] - points, axis=-1) + 1e9 * np.eye(120)
    assert (nearest.argmin(1) // 40 == np.arange(120) // 40).all()  # each beside one of its own group
    assert np.isfinite(plane(np.ones((40, 5)), 30)).all()  # of a collapsed layer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, digits_store: Path, untrained: Path) -> Path:
    """A folder with the pictures of the toy experiment's features, and with its plots."""
    folder, settings = tmp_path_factory.mktemp("pictures"), experiment(pictures=PICTURES)
    chain(folder, digits_store, untrained, settings)
    inputs = {"store": folder / "features/chosen/features.json", "weights.0": untrained}
    inputs |= {"data": digits_store, "images": digits_store}
    outputs = {"pictures": folder / "pictures.npz", "receipt": folder / "pictures.receipt.json"}
    call("pictures", probe_job_arguments.pictures(settings), inputs, outputs, folder)
    drawn = {name: folder / f"{name}.png" for name in ("maps", "plane")}
    data = {f"data/{name}": folder / f"{name}.csv" for name in drawn}
    options = {"columns": 4, "rows": 2, "scale": 6, "dpi": 110, "experiment": "toy"}
    call("plot", options, {"pictures": outputs["pictures"]}, drawn | data, folder)
    return folder


def test_maps_are_components_of_the_chosen_features_at_every_position(
    made: Path, digits_store: Path, untrained: Path
) -> None:
    arrays = np.load(made / "pictures.npz")
    test = images.read(digits_store, ["test"])
    places = np.searchsorted(test.rows, arrays["rows"])
    assert (arrays["images"] == test.images[places]).all() and (arrays["labels"] == test.labels[places]).all()
    assert set(arrays["labels"][:10]) == set(range(10))  # of each class in turn
    assert arrays["taps"].tolist() == PROBE["taps"] and str(arrays["chosen"]) in PROBE["taps"]
    argument = PicturesArgument.model_validate(probe_job_arguments.pictures(experiment(pictures=PICTURES)))
    trained, cpu = model.load(untrained, torch.device("cpu")), torch.device("cpu")
    source = FeatureModel.of(trained, argument, 5, cpu)
    data = only(open_inputs(digits_store, ["test"], cpu, None)["test"], places)
    level = trained.level(float(arrays["level"]))
    specs = {tap: (tap, "tokens") for tap in PROBE["taps"]}
    tokens = [features for _, features in source.blocks(data, Pass(level, specs, "chosen", 0))][0]  # noqa: RUF015
    for tap in PROBE["taps"]:
        own = tokens[tap].flatten(0, 1).numpy()  # (n T, D)
        np.testing.assert_allclose(arrays[f"map/{tap}"].reshape(-1, 3), components(own, 3).values, atol=1e-4)
    stored = array(made / "features/chosen", level.name, "test", "identity", str(arrays["chosen"]))[0]
    np.testing.assert_allclose(tokens[str(arrays["chosen"])].mean(1), stored[places], atol=2e-3)


def test_the_plane_is_of_the_chosen_features(made: Path) -> None:
    arrays = np.load(made / "pictures.npz")
    places = picked(200, 60)
    stored = array(made / "features/chosen", str(arrays["level"]), "test", "identity", str(arrays["chosen"]))[:]
    assert (arrays["plane_places"] == places).all()
    mean = stored[:, places].astype(np.float64).mean(0)  # of the noisy copies
    assert (arrays["plane"] == plane(mean, 10)).all()


def test_a_model_that_is_shown_clean_images_saw_no_noise(made: Path, digits_store: Path, untrained: Path) -> None:
    assert "noisy" in np.load(made / "pictures.npz")
    inputs = {"store": made / "features/chosen/features.json", "weights.0": untrained}
    inputs |= {"data": digits_store, "images": digits_store}
    outputs = {"pictures": made / "clean.npz", "receipt": made / "clean.receipt.json"}
    clean = experiment(pictures=PICTURES, input="clean")
    call("pictures", probe_job_arguments.pictures(clean), inputs, outputs, made)
    assert "noisy" not in np.load(made / "clean.npz")


def test_plots_have_their_data_beside_them(made: Path) -> None:
    arrays = np.load(made / "pictures.npz")
    maps, points = pd.read_csv(made / "maps.csv"), pd.read_csv(made / "plane.csv")
    assert len(maps) == sum(arrays[f"map/{tap}"][..., 0].size for tap in arrays["taps"])
    line = maps[(maps["tap"] == "mid") & (maps["image"] == arrays["rows"][5])].iloc[-1]
    np.testing.assert_allclose(line[["pc1", "pc2", "pc3"]].astype(float), arrays["map/mid"][5, -1, -1], rtol=1e-5)
    np.testing.assert_allclose(points[["x", "y"]], arrays["plane"], rtol=1e-5)
    assert points["class"].tolist() == arrays["plane_labels"].tolist()  # digits are named by themselves
    for name in ("maps", "plane"):
        picture = np.asarray(Image.open(made / f"{name}.png").convert("RGB"))
        assert max(picture.shape) <= 1500 and picture.std() > 5


def test_a_perplexity_beyond_the_points_is_refused() -> None:
    whole = EXPERIMENT | {"probe": PROBE | {"pictures": {"points": 60, "perplexity": 30}}}
    with pytest.raises(UserError, match=r"pictures.perplexity: 30.* at most 20, a third of pictures.points = 60"):
        parse({"datasets": {"digits": {"source": {"kind": "digits"}}}, "experiments": {"toy": whole}})
