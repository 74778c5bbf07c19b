"""`diffprobe measure`: the same figures for any batch size, number of processes and form of the images."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy
import torch
from numpy.testing import assert_allclose
from sklearn.datasets import load_digits

from diffprobe.__main__ import main
from diffprobe.config.built import parse_network
from diffprobe.data.export import to_npz, to_png
from diffprobe.data.imagesets import open_images
from diffprobe.networks.build import build
from diffprobe.training import checkpoints

ALL = {"fd", "kid", "is", "precision", "recall", "density", "coverage"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real digits in two sets, grey; the first in several forms; a classifier with weights of its own."""
    folder = tmp_path_factory.mktemp("measure")
    digits = (load_digits().images * 15.9).astype(np.uint8)[:230, :, :, None]  # (N, 8, 8, 1)
    np.savez(folder / "a.npz", arr_0=digits[:130])
    np.savez(folder / "b.npz", arr_0=digits[130:])
    np.savez(folder / "adm.npz", arr_0=digits, mu=np.zeros(4), sigma=np.eye(4), about="theirs")
    network, shape = {"kind": "classifier", "channels": 4}, {"image_channels": 1, "classes": 10}
    torch.manual_seed(0)
    header = {"network": network, "shape": shape}
    weights = {"raw": build(parse_network(network), **shape).state_dict()}
    checkpoints.write(folder / "classifier.safetensors", weights, header)
    return folder


def measured(folder: Path, *more: str, images: str = "a.npz", against: str = "b.npz") -> dict:
    """The whole of what `--json` writes."""
    extractor = ["--extractor", "classifier", f"weights={folder / 'classifier.safetensors'}"]
    out = folder / "out.json"
    main(["measure", str(folder / images), "--against", str(folder / against), *extractor, "--json", str(out), *more])
    return json.loads(out.read_text())


def values(report: dict) -> dict[str, float]:
    return {row["evaluator"]: row["value"] for row in report["figures"]}


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, float]:
    return values(measured(folder))


@pytest.mark.parametrize(
    "more", [["--batch", "1"], ["--batch", "7"], ["--batch", "64", "--processes", "2"]], ids=lambda more: " ".join(more)
)
def test_batches_and_processes_change_no_figure(folder: Path, whole: dict[str, float], more: list[str]) -> None:
    figures = values(measured(folder, *more))
    assert figures.keys() == whole.keys() == {f"{figure}130_classifier" for figure in ALL}
    assert_allclose(list(figures.values()), list(whole.values()), rtol=1e-5)


def test_all_forms_of_the_images_and_of_the_reference(folder: Path, whole: dict[str, float]) -> None:
    images = open_images(folder / "a.npz")
    to_png(images, folder / "png")
    to_npz(images, folder / "grey.npz", colour=False)
    for form in ("png", "grey.npz"):
        assert values(measured(folder, "--channels", "1", images=form)) == pytest.approx(whole, rel=1e-9)
    classifier = ["--extractor", "classifier", f"weights={folder / 'classifier.safetensors'}"]
    main(["measure", str(folder / "b.npz"), "--save", str(folder / "kept.npz"), *classifier])
    report = measured(folder, against="kept.npz")
    assert values(report) == pytest.approx(whole, rel=1e-9)
    reference = report["receipt"]["reference"]
    assert reference["images"] == 100 and reference["source"]["origin"].endswith("b.npz")


def test_the_receipt_says_what_was_measured(folder: Path) -> None:
    receipt = measured(folder, "--subset", "50")["receipt"]
    assert receipt["extractor"].keys() == {"name", "dim", "weights", "resize"}
    assert (receipt["images"], receipt["samples"]["images"], receipt["subset"]["images"]) == (130, 130, 50)
    options = {"neighbours": 3, "wide_neighbours": 5, "inception_score_splits": 1}
    options |= {"kernel_subsets": 100, "kernel_subset_size": 25}
    assert receipt["options"] == options


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--figures", "fd50k"], "fd50k needs 50,000 images, but there are 130: request fd130"),
        (["--figures", "fid"], "FID is defined by inception_2048 alone"),
        (["--figures", "fvd"], "--figures fvd: no such figure"),
        (["--extractor", "inception", "dims=100"], "--extractor inception dims=100: dims"),
        (["--extractor", "inception", "dims"], "--extractor dims: expected key=value"),
        (["--extractor", "classifier"], "name its checkpoint alone, as weights=FILE"),
        (
            ["--extractor", "inception", "dims=64", "weights=none.pth"],
            "Inception weights none.pth: cannot be read (No such file or directory); check the path",
        ),
        (["--extractor", "inception", "dims=: ["], "--extractor dims=: [: not YAML after the ="),
        (
            ["--extractor", "classifier", "weights=none.safetensors"],
            "none.safetensors: cannot be read (No such file",
        ),
        (["--save", "kept.txt"], "--save kept.txt: expected a name that ends in .npz"),
        (["--save", "{folder}/a.npz"], "a.npz: exists and holds no statistics to replace; choose another name"),
        (["--save", "new.npz", "--json", "new.npz"], "--json new.npz: is --save's file too; choose another name"),
        (["--save", "{folder}/adm.npz", "--against", "{folder}/adm.npz"], "adm.npz: exists and holds no statistics"),
        (["--splits", "test"], "--splits: only image stores (.h5) have splits; leave it out"),
        (["--extractor", "inception", "dims=64", "weights=a #1.pth"], "Inception weights a #1.pth: cannot be read"),
        (["--json", "{folder}/a.npz"], "a.npz: exists and holds no figures to replace; choose another name"),
        (["--figures", "kid90", "--subset", "50"], "kid90 needs 90 images, but the subset has 50"),
        (["--subset", "3", "--figures", "recall"], "k = 3, density"),
        (["--against", "nowhere"], "nowhere: no such file or folder"),
        (["--channels", "3"], "takes images of 1 channels, not 3; measure them with --channels 1"),
    ],
)
def test_mistakes_end_in_one_line(folder: Path, capsys: pytest.CaptureFixture, more: list[str], line: str) -> None:
    with pytest.raises(SystemExit) as status:
        measured(folder, *(word.format(folder=folder) for word in more))
    said = capsys.readouterr().err.strip()
    assert status.value.code == 1 and line in said and len(said.splitlines()) == 1
    assert "images" not in capsys.readouterr().out, "refused after the work"


@pytest.mark.parametrize("words", ["measure x --size 0", "measure x --batch -1", "measure x --processes 0.5",
                                   "measure x --subset none", "run --cores -1", "run --cores 0",
                                   "export x --format npy --latents l --scaled nan"])  # fmt: skip
def test_numbers_that_cannot_be_are_refused_before_anything_is_read(capsys: pytest.CaptureFixture, words: str) -> None:
    *_, option, value = words.split()
    with pytest.raises(SystemExit) as status:
        main(words.split())
    said = capsys.readouterr().err.strip()
    assert status.value.code == 2 and f"argument {option}: {value}: expected" in said and len(said.splitlines()) == 1


def test_an_empty_path_is_no_folder(capsys: pytest.CaptureFixture) -> None:
    for words in (["measure", "", "--save", "a.npz"], ["run", ""]):
        with pytest.raises(SystemExit) as status:
            main(words)
        assert (
            status.value.code == 2 and "is empty; perhaps a variable of the shell is not set" in capsys.readouterr().err
        )


def started(folder: Path, out: Path, *more: str) -> subprocess.Popen:
    """A measurement that takes longer than a test waits, in a process group of its own, as from a terminal."""
    extractor = ["--extractor", "classifier", f"weights={folder / 'classifier.safetensors'}"]
    words = ["measure", str(folder / "many.npz"), "--against", str(folder / "b.npz"), "--save", str(out / "kept.npz")]
    command = [sys.executable, "-m", "diffprobe", *words, "--json", str(out / "out.json"), *extractor, *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | {"TMPDIR": str(out)}, start_new_session=True, **pipes)


@pytest.mark.parametrize(
    ("number", "seconds", "more"),
    [
        (signal.SIGINT, 1, ()),  # while it imports
        (signal.SIGTERM, 7, ()),
        (signal.SIGINT, 5, ("--processes", "2")),  # while its processes start
        (signal.SIGTERM, 9, ("--processes", "2")),
    ],
)
def test_stopped_at_any_time_it_ends_in_one_line(
    folder: Path, tmp_path: Path, number: signal.Signals, seconds: int, more: tuple[str, ...]
) -> None:
    if not (folder / "many.npz").exists():
        np.savez(folder / "many.npz", arr_0=np.zeros((1_000_000, 8, 8, 1), np.uint8))
    process = started(folder, tmp_path, *more)
    time.sleep(seconds)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)  # Ctrl-C reaches the whole group
    out, err = process.communicate(timeout=60)
    line = f"stopped by {number.name}; nothing is left half-written"
    assert (process.returncode, out, err.strip()) == (128 + number, "", line)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_in_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                      capsys: pytest.CaptureFixture) -> None:  # fmt: skip
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(np, "savez", full)
        measured(folder, "--save", str(tmp_path / "kept.npz"))
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "kept.npz: cannot be written (No space left on device" in line and "free some space" in line
    assert list(tmp_path.iterdir()) == []
    extractor = ["--extractor", "classifier", f"weights={folder / 'classifier.safetensors'}"]
    words = ["measure", str(folder / "a.npz"), "--against", str(folder / "b.npz"), *extractor]
    with Path("/dev/full").open("w") as disk:
        command = [sys.executable, "-m", "diffprobe", *words]
        ended = subprocess.run(command, stdout=disk, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1 and "standard output: No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr and "Exception" not in ended.stderr


@pytest.mark.skipif(scipy.__version__ >= "1.18", reason="pytorch-fid 0.3.0 needs scipy < 1.18")
def test_equal_to_pytorch_fids_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Real weights, real photographs; 2,000 images at 768 dims are compared by `python -m benchmarks.fid`."""
    data = os.environ.get("DIFFPROBE_TEST_DATA")
    if not data:
        pytest.skip("DIFFPROBE_TEST_DATA is not set: no real Inception weights here")
    import pytorch_fid.fid_score as score
    import pytorch_fid.inception as fid
    import torchvision

    from diffprobe.evaluation.generation.extractors import weights

    file = Path(data) / "weights" / "fid_inception_2015_12_05_to_mixed_6e.safetensors"
    images, n = open_images(Path(data) / "data" / "cifar10-a.zip"), 80
    for name, start in (("a", 0), ("b", n)):
        np.savez(tmp_path / f"{name}.npz", arr_0=images.read(start, start + n))
        to_png(open_images(tmp_path / f"{name}.npz"), tmp_path / name)
    whole = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
    tensors = whole.state_dict() | weights.read(file, "weights")
    monkeypatch.setattr(fid, "load_state_dict_from_url", lambda *_, **__: tensors)
    command = ["pytorch-fid", str(tmp_path / "a"), str(tmp_path / "b"), "--dims", "64", "--num-workers", "0"]
    monkeypatch.setattr(sys, "argv", command)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score.main()
    expected = float(capsys.readouterr().out.rsplit("FID:", 1)[1])
    extractor = ["--extractor", "inception", "dims=64", f"weights={file}", "--figures", f"fd{n}"]
    out = tmp_path / "out.json"
    main(["measure", str(tmp_path / "a.npz"), "--against", str(tmp_path / "b.npz"), *extractor, "--json", str(out)])
    (figure,) = json.loads(out.read_text())["figures"]
    assert figure["evaluator"] == f"fd{n}_inception_64"
    assert figure["value"] == pytest.approx(expected, rel=1e-3)
