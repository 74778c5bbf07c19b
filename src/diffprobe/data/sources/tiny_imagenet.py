"""Tiny ImageNet (CS231n, Stanford): 200 classes, 100,000 + 10,000 images of 64x64, read from the zip itself."""

from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from diffprobe.config.sources.download import Download
from diffprobe.data.filenames import display, sort_names
from diffprobe.data.listing import Files, Listing
from diffprobe.data.sources import wnids
from diffprobe.data.sources.zips import members, open_zip
from diffprobe.data.splits import TEST, TRAIN
from diffprobe.runtime.errors import UserError, unreadable

ARCHIVE = "tiny-imagenet-200.zip"
ROOT = "tiny-imagenet-200/"
MOST_TEXT = 2**25  # bytes; words.txt has 2.6 MB


def find(source: Download, archives: Mapping[str, Path]) -> Listing:
    """train/WNID/images/*, then val/images/* as test, whose labels are published; the zip's own test has none.

    Raises UserError for a damaged zip, and for annotations that are missing or do not match the images.
    """
    path = archives[ARCHIVE]
    with open_zip(path) as archive:
        images = members(path, archive).images
        train, test = ([name for name in images if name.startswith(ROOT + part)] for part in ("train/", "val/"))
        annotations = read_lines(path, archive, ROOT + "val/val_annotations.txt")
        class_names = read_lines(path, archive, ROOT + "words.txt")
    train_wnids = [name.split("/")[2] for name in train]
    classes = sort_names(set(train_wnids))
    where = f"{display(path)}: val_annotations.txt"
    # Lines "val_0.JPEG\tn03444034\t0\t32\t44\t62": image, wnid, bounding box.
    table = {image: wnid for image, wnid, *_ in (line.split("\t") for line in annotations if "\t" in line)}
    test_wnids = wnids.look_up([name.rpartition("/")[2] for name in test], table, where)
    labels = wnids.labels_of(train_wnids + test_wnids, classes, where)
    official = np.repeat([TRAIN, TEST], [len(train), len(test)]).astype(np.uint8)
    files = Files((path,), [(0, name) for name in train + test])
    return Listing(labels, wnids.class_names(classes, class_names), official, ARCHIVE, files)


def read_lines(path: Path, archive: ZipFile, name: str) -> list[str]:
    remedy = "delete it and download it again"
    try:
        if (size := archive.getinfo(name).file_size) > MOST_TEXT:
            raise UserError(f"{display(path)}: {name} is declared with {size:,} bytes; {remedy}")
        return archive.read(name).decode("utf-8", "replace").splitlines()
    except KeyError:
        raise UserError(f"{display(path)}: lacks {name}; {remedy}") from None
    except UserError:
        raise
    except Exception as error:  # zipfile raises a dozen kinds of errors for a damaged archive
        raise unreadable(f"{display(path)}: {name}", error, remedy) from None
