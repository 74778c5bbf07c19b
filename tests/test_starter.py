"""A first config for a folder or zip of images, fingerprints of folders, and configs that need labels."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffprobe.config.inferred import keys_that_need_labels
from diffprobe.config.load import load
from diffprobe.data.fingerprint import fingerprint
from diffprobe.data.labels import refuse_unlabelled
from diffprobe.runtime.errors import UserError
from diffprobe.starter import config_for


def grow(folder: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(np.full((40, 30, 3), i, np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("counts", "labelled"),
    [({"cat": 10, "dog": 12}, True), ({"": 20}, False), ({"cat": 30, "dog": 3}, False), ({"all": 20}, False)],
    ids=["classes", "flat", "a small class", "one class"],
)
def test_a_first_config_fits_the_images(tmp_path: Path, counts: dict[str, int], labelled: bool) -> None:
    folder = grow(tmp_path / "my 'photos'\nof 日本", counts)
    path = config_for(folder, None, tmp_path)
    config = load(path)
    (experiment,) = config.experiments.values()
    assert (experiment.probe is not None) == bool(experiment.generation.extractors) == labelled
    assert experiment.generation.nearest  # whether samples are copies needs no label
    assert config_for(folder, None, tmp_path) == path  # a second time it is taken as it is
    (dataset,) = config.datasets
    classes = ["cat", "dog"] if labelled else []
    refuse_unlabelled(dataset, classes, keys_that_need_labels(config, dataset))


def test_a_config_of_other_images_is_not_taken(tmp_path: Path) -> None:
    folder = grow(tmp_path / "same", {"": 12})
    with zipfile.ZipFile(tmp_path / "same.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    config_for(tmp_path / "same.zip", None, tmp_path)
    with pytest.raises(UserError, match=r"something else than .*choose another --name"):
        config_for(folder, None, tmp_path)
    with pytest.raises(UserError, match="rename the file or folder"):
        config_for(tmp_path / "$HOME x", None, tmp_path)
    with pytest.raises(UserError, match="rename the file or folder"):
        config_for(tmp_path / "caf\udce9", None, tmp_path)  # in Latin-1


def test_a_changed_folder_has_another_fingerprint(tmp_path: Path) -> None:
    folder = grow(tmp_path / "photos", {"cat": 3, "dog/deep/deeper": 3})
    fingerprints = {fingerprint([str(folder)])}

    def changed() -> bool:
        before = len(fingerprints)
        fingerprints.add(fingerprint([str(folder)]))
        return len(fingerprints) > before

    for harmless in (".DS_Store", "notes.txt", "Thumbs.db"):
        (folder / "cat" / harmless).write_text("x")
    assert not changed()
    (folder / "cat" / "0.png").write_bytes(b"written over in place")
    assert changed()
    (folder / "dog" / "deep" / "deeper" / "9.png").write_bytes(b"new")
    assert changed()
    (folder / "cat" / "1.png").rename(folder / "cat" / "8.png")
    assert changed()
    (folder / "metadata.csv").write_text("file_name,label\n")
    assert changed()
    linked = grow(tmp_path / "elsewhere", {"bird": 3})
    (folder / "linked").symlink_to(linked)
    (linked / "back").symlink_to(folder)
    assert changed()
    (linked / "bird" / "0.png").unlink()
    assert changed()
    assert fingerprint([str(tmp_path / "gone")]) is None


def test_missing_labels_are_reported_before_any_work() -> None:
    config = load(Path(__file__).parents[1] / "config" / "config.yaml")
    asking = keys_that_need_labels(config, "digits")
    guided = "experiments.digits_dit.sample.samplers.heun10.guidance"
    assert asking[0] == "extractors.digits_classifier.dataset" and guided in asking
    with pytest.raises(UserError, match=r"datasets\.digits: only one class \('x'\), but extractors\.digits_classifier"):
        refuse_unlabelled("digits", ["x"], asking)
    refuse_unlabelled("digits", [], [])
