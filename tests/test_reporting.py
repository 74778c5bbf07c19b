"""Pictures and tables show what was measured."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle
from PIL import Image
from rich.console import Console

from diffprobe.data import samples
from diffprobe.plan.figures import PICTURES
from diffprobe.reporting import images, mosaics, noise_plots, plots, tables
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import write_json, write_jsonl

SCRIPTS = Path(__file__).parents[1] / "workflow" / "scripts"
TAPS = ["in_1", "in_2", "mid", "out_1", "out_2", "out_3", "out_4"]
SIGMAS = [0.03, 0.07, 0.14, 0.3, 0.6, 1.2]
OPTIONS = {"columns": 4, "rows": 2, "scale": 6, "dpi": 110}
CHOICE = {"kimg": 72, "tap": "out_2", "level": "0.14", "sigma": 0.14, "accuracy": 0.97, "runner_up": None}
CHOICE |= {"dataset": "digits", "selection": "select", "scorer": "linear"}
ABOUT = {"experiment": "digits_edm", "dataset": "digits"}
CONFUSION = {"confusion": [[9, 1, 0], [0, 10, 0], [2, 0, 8]], "classes": ["0", "1", "2"]}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def result_rows() -> list[dict]:
    """Three checkpoints: the last has the best distance, the middle one is chosen and tested."""
    cell = {"tap": "out_2", "sigma": 0.14}
    rows: list[dict] = []
    for kimg, distance, linear in [(36, 9.0, 0.95), (72, 4.0, 0.97), (108, 3.0, 0.96)]:
        samples = ABOUT | {"kimg": kimg, "split": "train+select", "sampler": "heun18", "images": 1000}
        select = ABOUT | cell | {"kimg": kimg, "split": "select"}
        rows += [samples | {"evaluator": "fd1k_classifier", "value": distance}]
        rows += [samples | {"evaluator": "precision1k_classifier", "value": 0.7 + kimg / 1000}]
        rows += [samples | {"evaluator": "recall1k_classifier", "value": 0.6 + kimg / 1000}]
        rows += [select | {"evaluator": "linear", "value": linear, "spread": 0.004, "seeds": 3}]
        rows += [select | {"evaluator": "knn", "value": linear - 0.01}]
    test = ABOUT | cell | {"kimg": 72, "split": "test", "seeds": 3}
    rows += [test | {"evaluator": "linear", "value": 0.9754, "spread": 0.0031}]
    rows += [test | {"evaluator": "knn", "value": 0.9701, "spread": None}]
    for dataset, value in (("digits", 0.962), ("other", 0.5)):
        rows.append({"dataset": dataset, "evaluator": "pixels_logistic", "split": "test", "value": value})
    return rows


def grid_rows() -> pd.DataFrame:
    """A grid in a scrambled order, with one best cell (out_2 at 0.14)."""
    cells = [
        {"tap": tap, "level": f"{sigma:g}", "sigma": sigma, "accuracy": 0.5 + i / 100 + j / 1000}
        for i, tap in enumerate(TAPS)
        for j, sigma in enumerate(SIGMAS)
    ]
    grid = pd.DataFrame(cells).sample(frac=1, random_state=0, ignore_index=True)
    grid["log_snr"] = -2 * np.log(grid["sigma"])
    grid.loc[(grid["tap"] == "out_2") & (grid["level"] == "0.14"), "accuracy"] = 0.97
    return grid


# --- images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_shows_each_image_at_its_place(channels: int) -> None:
    shown = noise(20, 8, 8, channels)
    pixels = np.asarray(mosaics.grid(shown, columns=4, rows=3, scale=5))
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    pitch = 8 * 5 + mosaics.GAP
    assert pixels.shape == (3 * pitch - mosaics.GAP, 4 * pitch - mosaics.GAP, channels)
    for i in range(12):
        y, x = i // 4 * pitch, i % 4 * pitch
        cell = pixels[y : y + 40, x : x + 40].reshape(8, 5, 8, 5, channels)
        assert (cell == shown[i][:, None, :, None]).all()


def test_grid_of_few_images_has_no_empty_rows() -> None:
    picture = mosaics.grid(noise(3, 8, 8, 1), columns=2, rows=8, scale=1)
    assert picture.size == (2 * 8 + mosaics.GAP, 2 * 8 + mosaics.GAP)
    assert (np.asarray(picture)[-8:, -8:] == 255).all()


def test_strip_runs_from_the_first_step_to_the_last_pixel_for_pixel(tmp_path: Path) -> None:
    frames, sigmas = noise(2, 19, 8, 8, 1), np.append(np.geomspace(80, 0.002, 18), 0)
    figure = images.strip(frames, sigmas, scale=6)
    figure.savefig(tmp_path / "strip.png")
    pixels = np.asarray(Image.open(tmp_path / "strip.png").convert("L"))
    shown = images.spread(19, images.COLUMNS)
    assert len(shown) == images.COLUMNS and shown[0] == 0 and shown[-1] == 18
    assert [text.get_text() for text in figure.texts] == ["σ =", *(images.short(sigmas[i]) for i in shown)]
    canvas = mosaics.tile(frames[:, shown], 6)[..., 0]
    right, bottom = pixels.shape[1] - round(0.1 * 110), pixels.shape[0] - round(0.1 * 110)
    assert (pixels[bottom - canvas.shape[0] : bottom, right - canvas.shape[1] : right] == canvas).all()


def test_strip_shows_the_noisy_images_below_the_estimates(tmp_path: Path) -> None:
    estimates, noisy, sigmas = noise(2, 4, 8, 8, 3), 255 - noise(2, 4, 8, 8, 3), np.array([9.0, 3, 1, 0])
    figure = images.strip(estimates, sigmas, scale=4, noisy=noisy)
    figure.savefig(tmp_path / "strip.png")
    pixels = np.asarray(Image.open(tmp_path / "strip.png").convert("RGB"))
    rows = np.stack([estimates[0], noisy[0], estimates[1], noisy[1]])
    canvas = mosaics.tile(rows, 4)
    right, bottom = pixels.shape[1] - round(0.1 * 110), pixels.shape[0] - round(0.1 * 110)
    assert (pixels[bottom - canvas.shape[0] : bottom, right - canvas.shape[1] : right] == canvas).all()
    texts = [text.get_text() for text in figure.texts]
    assert texts == ["σ =", "9", "3", "1", "0", *2 * [r"$\hat{x}_0$", "$x_t$"]]
    boxes = [text.get_window_extent() for text in figure.texts]
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize("scale", [1, 6])
def test_neighbours_stand_pixel_for_pixel_beside_the_generated_image(scale: int, tmp_path: Path) -> None:
    queries, nearest = noise(3, 8, 8, 1), noise(3, 4, 8, 8, 1)
    figure = images.neighbours(queries, nearest, np.array([0, 0.456, 1]), scale)
    figure.savefig(tmp_path / "nearest.png")
    pixels = np.asarray(Image.open(tmp_path / "nearest.png").convert("L"))
    bottom = pixels.shape[0] - round(images.MARGIN * 110)
    for canvas in (mosaics.tile(queries[:, None], scale)[..., 0], mosaics.tile(nearest, scale)[..., 0]):
        height, width = canvas.shape
        strips = np.lib.stride_tricks.sliding_window_view(pixels[bottom - height : bottom], (height, width))[0]
        assert (strips == canvas).all((1, 2)).sum() == 1
    heads = ["generated", "nearest training images, nearest first", "ratio"]
    assert [text.get_text() for text in figure.texts] == [*heads, "0.00", "0.46", "1.00"]


def test_nothing_beside_neighbours_is_cut_off_or_overlaps(tmp_path: Path) -> None:
    figure = images.neighbours(noise(9, 8, 8, 1), noise(9, 2, 8, 8, 1), np.linspace(0, 1, 9), scale=2)
    figure.savefig(tmp_path / "nearest.png")
    boxes = [text.get_window_extent() for text in figure.texts]
    width, height = figure.get_size_inches() * 110
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    edge = np.asarray(Image.open(tmp_path / "nearest.png").convert("L"))
    assert min(part.min() for part in (edge[0], edge[-1], edge[:, 0], edge[:, -1])) == 255


@pytest.mark.parametrize(("sigma", "text"), [(80, "80"), (5.34, "5.3"), (0.0075, "0.0075"), (0, "0")])
def test_noise_levels_are_short(sigma: float, text: str) -> None:
    assert images.short(sigma) == text


# --- plots --------------------------------------------------------------------------------------------------


def test_heatmap_orders_taps_and_noise_and_frames_the_choice() -> None:
    axes = plots.heatmap(grid_rows(), CHOICE, "title", TAPS).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == TAPS
    assert [label.get_text().split("σ ")[1] for label in axes.get_xticklabels()] == [f"{s:g}" for s in SIGMAS]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first tap on top
    numbers = {text.get_position(): text.get_text() for text in axes.texts}
    assert numbers[2, TAPS.index("out_2")] == "97.0" and numbers[5, 0] == "50.5" and len(numbers) == 42
    (frame,) = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert frame.get_xy() == (1.5, TAPS.index("out_2") - 0.5)


def test_curves_show_distances_left_accuracies_right_and_the_choice() -> None:
    left, right = plots.curves(result_rows(), CHOICE).axes
    distance, chosen = left.lines
    assert list(distance.get_xdata()) == [36, 72, 108] and list(distance.get_ydata()) == [9, 4, 3]
    assert distance.get_label() == "fd1k_classifier" and "fd1k_classifier" in left.get_ylabel()
    assert list(chosen.get_xdata()) == [72, 72]
    ticks = {label.get_text() for label in left.get_xticklabels()}
    assert ticks == {"36", "72\nchosen", "108"}
    lines = {line.get_label(): list(line.get_ydata()) for line in right.lines}
    assert lines["linear"] == pytest.approx([95, 97, 96])
    assert lines["knn"] == pytest.approx([94, 96, 95])


def test_many_probes_are_told_apart() -> None:
    row = {"experiment": "e", "split": "select"}
    rows = [row | {"kimg": k, "evaluator": f"probe {i}", "value": i / 10} for i in range(9) for k in (1, 2)]
    lines = plots.curves(rows).axes[1].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 9


def test_confusion_draws_whatever_classes_are_called(tmp_path: Path) -> None:
    """Half a formula once failed this plot after all training; line breaks and changes of direction move others."""
    names = ["a$\\b$", "$", "_", "^", "two\nlines", "\u202eleft", "מימין", "\udcff", "x" * 300, "%s {} <b>"]
    figure = plots.confusion(np.eye(len(names)), names)
    figure.savefig(tmp_path / "confusion.png")
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert shown == [*names[:4], "two lines", "?left", "מימין", "?", "x" * 23 + "…", names[-1]]


def test_a_logarithmic_axis_has_plain_numbers(tmp_path: Path) -> None:
    row = {"experiment": "e", "split": "", "evaluator": "fid1k_x"}
    figure = plots.curves([row | {"kimg": k, "value": value} for k, value in ((1, 400.0), (5, 3.0))])
    figure.savefig(tmp_path / "curves.png")
    assert {"10", "100"} <= {label.get_text() for label in figure.axes[0].get_yticklabels()}


def test_losses_count_thousands_of_images_and_are_smoothed() -> None:
    rows = [{"step": i, "images": 1000 * i, "loss": 0.5 * 1.1 ** (-1) ** i} for i in range(1, 101)]
    faint, bold = plots.losses("run", rows).axes[0].lines
    assert list(faint.get_xdata()) == list(range(1, 101))
    assert list(faint.get_ydata()) == [row["loss"] for row in rows]
    assert np.allclose(bold.get_ydata()[5:-5], 0.5, rtol=0.03)


def test_a_curve_over_noise_has_each_levels_best_layer_and_checkpoints_are_told_apart() -> None:
    grids = pd.concat([grid_rows().assign(kimg=kimg) for kimg in (36, 72)])
    grids.loc[grids["kimg"] == 36, "accuracy"] -= 0.1
    clean = pd.DataFrame([{"kimg": 36, "tap": "features", "level": "clean", "sigma": 0.0, "accuracy": 1.0}])
    axes = noise_plots.over_noise_and_training(pd.concat([grids, clean])).axes[0]
    early, late = axes.lines
    best = grid_rows().groupby("sigma")["accuracy"].max()
    assert list(late.get_xdata()) == SIGMAS and np.allclose(late.get_ydata(), 100 * best[SIGMAS])
    assert np.allclose(early.get_ydata(), late.get_ydata() - 10)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["36", "72"]


# --- tables -------------------------------------------------------------------------------------------------


def test_summary_has_one_row_per_key() -> None:
    frame = tables.summary(result_rows())
    assert list(frame.columns[:5]) == ["experiment", "kimg", "evaluator", "split", "value"]
    assert len(frame) == len(result_rows())
    assert not frame.duplicated(["experiment", "dataset", "kimg", "evaluator", "split", "sampler"]).any()
    assert frame["kimg"].dropna().unique().tolist() == [36, 72, 108]


def test_summary_refuses_two_results_for_one_row() -> None:
    with pytest.raises(ValueError, match="two results"):
        tables.summary([*result_rows(), result_rows()[0] | {"value": 1.0}])


def test_results_take_the_choice_for_test_and_the_best_checkpoint_for_the_distance() -> None:
    (row,) = tables.results(result_rows(), {"digits_edm": CHOICE}).to_dict("records")
    assert (row["chosen kimg"], row["tap"], row["sigma"]) == (72, "out_2", "0.14")
    assert (row["linear test"], row["knn test"]) == ("97.5 ± 0.3 %", "97.0 %")
    assert row["raw pixels test"] == "96.2 %"  # of its own dataset
    assert (row["fd1k_classifier (best)"], row["best kimg"]) == (3.0, 108)
    assert (row["precision"], row["recall"]) == (0.808, 0.708)


def test_results_have_the_evaluators_of_another_networks_features() -> None:
    """Rows of a baseline, which belong to no checkpoint."""
    other = ABOUT | {"evaluator": "imagenet_linear", "tap": "imagenet", "sigma": 0.0, "split": "test", "value": 0.61}
    (row,) = tables.results([*result_rows(), other], {"digits_edm": CHOICE}).to_dict("records")
    assert (row["imagenet_linear test"], row["linear test"]) == ("61.0 %", "97.5 ± 0.3 %")


def test_results_keep_experiments_with_different_distances_apart() -> None:
    rows, choices = result_rows(), {"digits_edm": CHOICE, "second": CHOICE}
    second = [row | {"experiment": "second"} for row in rows if row.get("kimg")]
    for row in second:
        row["evaluator"] = row["evaluator"].replace("fd1k_classifier", "fid1k_inception_2048")
    frame = tables.results([*second, *rows], choices).set_index("experiment")
    assert list(frame.index) == list(choices)
    assert frame.loc["second", "fid1k_inception_2048 (best)"] == 3
    assert frame.loc["digits_edm", "fd1k_classifier (best)"] == 3
    assert pd.isna(frame.loc["second", "fd1k_classifier (best)"])


@pytest.mark.parametrize("width", [60, 200])
def test_show_prints_every_value_in_any_terminal(tmp_path: Path, width: int) -> None:
    frame = tables.results(result_rows(), {"digits_edm": CHOICE})
    frame.to_csv(tmp_path / "results.csv", index=False)
    out = io.StringIO()
    tables.show(tmp_path / "results.csv", Console(file=out, width=width))
    for word in [*frame.columns, *map(str, frame.iloc[0])]:
        assert word in out.getvalue()


def test_precision_is_that_of_the_distances_own_network() -> None:
    rows = result_rows()
    other = [row | {"evaluator": "precision1k_other", "value": 0.1} for row in rows if row.get("sampler")][::3]
    fewer = [row | {"evaluator": "precision500_classifier", "value": 0.2, "images": 500} for row in other]
    (row,) = tables.results([*other, *fewer, *rows], {"digits_edm": CHOICE}).to_dict("records")
    assert row["precision"] == 0.808


def test_distances_begin_with_fid_and_the_most_images() -> None:
    names = ["fd9k_classifier", "sfid50k_inception_2048", "fid1k_inception_2048", "fid50k_inception_2048", "linear"]
    counts = dict(zip(names, (9000, 50_000, 1000, 50_000, None), strict=True))
    frame = tables.summary(ABOUT | {"kimg": 1, "evaluator": name, "images": n} for name, n in counts.items())
    assert tables.distances(frame) == ["fid50k_inception_2048", "fid1k_inception_2048", "fd9k_classifier"]


def test_best_sets_the_best_features_against_the_best_samples() -> None:
    rows = result_rows()
    worse = [row | {"sampler": "other", "value": row["value"] + 1} for row in rows if row.get("sampler")]
    (row,) = tables.best([*worse, *rows], {"digits_edm": CHOICE}).to_dict("records")
    assert list(row) == tables.BEST
    assert (row["experiment"], row["distance"]) == ("digits_edm", "fd1k_classifier")
    assert (row["best probe kimg"], row["best probe distance"]) == (72, 4.0)
    assert (row["best probe select"], row["probe test"]) == ("97.0 ± 0.4 %", "97.5 ± 0.3 %")
    assert (row["best FD kimg"], row["best FD distance"]) == (108, 3.0)
    assert row["best FD select"] == "96.0 ± 0.4 %"


def test_best_leaves_empty_what_was_not_measured(tmp_path: Path) -> None:
    rows = result_rows()
    probed = [row | {"experiment": "probed"} for row in rows if row["evaluator"] in ("linear", "knn")]
    drawn = [row | {"experiment": "drawn"} for row in rows if row.get("sampler")]
    frame = tables.best([*probed, *drawn, *rows], {"probed": CHOICE, "drawn": None, "neither": None})
    frame.to_csv(tmp_path / "best.csv", index=False)
    table = pd.read_csv(tmp_path / "best.csv", dtype=str, keep_default_na=False).set_index("experiment")
    filled = {name: [column for column in table if row[column]] for name, row in table.iterrows()}
    assert filled["probed"] == ["probe", "best probe kimg", "best probe select", "probe test"]
    assert filled["drawn"] == ["distance", "best FD kimg", "best FD distance"]
    assert filled["neither"] == []
    assert (table.loc["probed", "best probe kimg"], table.loc["drawn", "best FD kimg"]) == ("72", "108")


def test_results_name_checkpoints_by_whole_numbers_where_some_experiments_have_none() -> None:
    second = [row | {"experiment": "second"} for row in result_rows() if row.get("sampler")]
    frame = tables.results([*second, *result_rows()], {"digits_edm": CHOICE, "second": None})
    assert frame["chosen kimg"].tolist() == [72, pd.NA]
    assert frame.to_csv(index=False).splitlines()[2].startswith("second,,")


def test_show_without_results_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results yet"):
        tables.show(tmp_path / "results.csv")


# --- scripts ------------------------------------------------------------------------------------------------


def call(script: str, name: str, config: dict, inputs: dict[str, Path], outputs: dict[str, Path], folder: Path) -> None:
    log = folder / "logs" / name / "log.log"
    command = [sys.executable, str(SCRIPTS / script), json.dumps(config), "--log", str(log), "--name", f"{name}.run"]
    for flag, group in (("--in", inputs), ("--out", outputs)):
        command += [flag, *(f"{name}={path}" for name, path in group.items())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + log.read_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the plots read."""
    folder = tmp_path_factory.mktemp("made")
    pictures = noise(10, 8, 8, 1)
    samples.fill(folder / "samples.zarr", 10, (8, 8, 1), {}, lambda a, b: pictures[a:b], lambda done: None)
    np.savez(folder / "strip.npz", images=noise(3, 6, 8, 8, 1), sigmas=np.array([80.0, 20, 5, 1, 0.1, 0]))
    shown = {"queries": noise(3, 8, 8, 1), "found": noise(3, 4, 8, 8, 1), "ratios": np.array([0.1, 0.5, 1])}
    np.savez(folder / "nearest.npz", **shown, kind="generated")
    decoded = {"variations": noise(4, 3, 8, 8, 1), "between": noise(2, 5, 8, 8, 1), "exchanged": noise(2, 3, 8, 8, 1)}
    np.savez(folder / "decodings.npz", images=noise(4, 8, 8, 1), **decoded)
    for part, start in enumerate((1, 36)):
        rows = [{"step": i, "images": 1000 * i, "lr": 1e-3, "loss": 1 / i} for i in range(start, start + 36)]
        write_jsonl(folder / f"stats{part}.jsonl", rows)
    grid_rows().to_csv(folder / "grid.csv", index=False)
    write_json(folder / "select.json", {"rows": [ABOUT], "choice": CHOICE})
    write_json(folder / "choice.json", CHOICE)
    write_json(folder / "test.json", {"rows": [{"value": 0.9, "selection": "select"}], **CONFUSION})
    np.savez(folder / "reconstruction.npz", images=noise(2, 6, 16, 16, 1))
    for part in range(2):
        write_json(folder / f"results{part}.json", {"rows": result_rows()[part::2]})
    return folder


DRAWN = {
    "samples/72.heun": {"samples/72.heun": "samples.zarr"},
    "strip/72.heun": {"strip/72.heun": "strip.npz"},
    "nearest/72.heun": {"pairs/72.heun": "nearest.npz"},
    "decodings/72.heun": {"decodings/72.heun": "decodings.npz"},
    "losses": {"stats/36": "stats0.jsonl", "stats/72": "stats1.jsonl"},
    "curves": {"generation/72.heun": "results0.json", "select/108": "results1.json", "choice": "choice.json"},
    "grid/72": {"grid/72": "grid.csv", "select/72": "select.json"},
    "noise": {"grid/72": "grid.csv", "select/72": "select.json"},
    "confusion": {"test": "test.json"},
    "reconstruction": {"pairs": "reconstruction.npz"},
}


def has_data(name: str) -> bool:
    """Whether a table is written beside a figure: pictures of images have none."""
    return name.partition("/")[0] not in (*PICTURES, "reconstruction")


def test_one_job_draws_all_figures(made: Path, tmp_path: Path) -> None:
    config = OPTIONS | {"experiment": "digits_edm", "taps": TAPS, "evaluator": "linear"}
    outputs = {name: tmp_path / f"{name}.png" for name in DRAWN}
    tables = {f"data/{name}": tmp_path / f"{name}.csv" for name in DRAWN if has_data(name)}
    for path in outputs.values():
        path.parent.mkdir(exist_ok=True)  # as Snakemake does
    inputs = {name: made / file for files in DRAWN.values() for name, file in files.items()}
    call("plot.py", "plots", config, inputs, outputs | tables, tmp_path)
    for path in outputs.values():
        picture = Image.open(path)
        picture.load()
        assert min(picture.size) >= 90 and max(picture.size) <= 1500
        assert np.asarray(picture.convert("L")).std() > 5  # not an empty sheet
    assert set(tmp_path.rglob("*.png")) == set(outputs.values())
    shown = {name: pd.read_csv(path) for name, path in tables.items()}
    assert shown["data/losses"]["loss"].tolist() == [1 / i for i in (*range(1, 37), *range(36, 72))]
    assert shown["data/curves"]["value"].sum() == pytest.approx(sum(row["value"] for row in result_rows()))
    assert shown["data/nearest/72.heun"]["ratio"].tolist() == [0.1, 0.5, 1]
    assert shown["data/grid/72"]["accuracy"].sum() == pytest.approx(grid_rows()["accuracy"].sum())
    assert shown["data/confusion"].iloc[:, 1:].to_numpy().tolist() == CONFUSION["confusion"]


def test_summary_script_writes_all_tables(made: Path, tmp_path: Path) -> None:
    inputs = {f"results.{i}": made / f"results{i}.json" for i in range(2)}
    inputs["choice.0"] = made / "choice.json"
    outputs = {name: tmp_path / name for name in ("summary", "table", "best")}
    call("summary.py", "summary", {"experiments": ["digits_edm"], "probed": ["digits_edm"]}, inputs, outputs, tmp_path)
    assert len(pd.read_csv(outputs["summary"])) == len(result_rows())
    assert pd.read_csv(outputs["table"])["linear test"].tolist() == ["97.5 ± 0.3 %"]
    assert pd.read_csv(outputs["best"])["best FD kimg"].tolist() == [108]
