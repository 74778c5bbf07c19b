"""Where masks come from: a function for each kind of `config.masks`."""

from collections import Counter
from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from diffprobe.config.masks import CelebAMask, MaskArray, MaskFolder, Threshold
from diffprobe.data.archives import LARGEST
from diffprobe.data.filenames import display
from diffprobe.data.listing import Files, Listing, Masks
from diffprobe.data.npy import read_array
from diffprobe.data.png import grey_scale, lacks_rows, png_damage
from diffprobe.data.sources.folder import read, walk
from diffprobe.runtime.errors import UserError, access_error, one_line

REMEDY = "replace it"
ANNOTATIONS = "CelebAMask-HQ-mask-anno"
IN_FOLDER = 2000  # images of CelebAMask-HQ whose parts share a folder
# In the order in which the authors paint them, 1, 2, ...; 0 is the background.
PARTS = (
    *("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip"),
    *("hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
)


def of_folder(masks: MaskFolder, listing: Listing) -> Masks:
    """PNG files with the images' names. Raises UserError for an image without a mask, and a mask without an image."""
    root = Path(masks.path).expanduser()
    names = [name for name in walk(root).images if name.lower().endswith(".png")]
    files, stems = {stem(name): name for name in names}, [stem(name) for _, name in files_of(listing).entries]
    if twice := repeated(map(stem, names)):
        raise UserError(f"{display(root)}: holds two masks {display(twice)}.png; keep one")
    if twice := repeated(stems):
        raise UserError(f"{display(root)}: two images are called {display(twice)}, which has one mask; rename one")
    lost = next((name for name in stems if name not in files), None)
    if lost is not None:
        raise UserError(f"{display(root)}: has no mask {display(lost)}.png, though there is such an image; add it")
    if over := set(files) - set(stems):
        raise UserError(f"{display(root / files[min(over)])}: a mask without an image; remove it, or add the image")
    wanted = [root / files[name] for name in stems]
    return Masks(tuple(masks.names), masks.ignore, np.arange(len(wanted)), lambda row: read_mask(wanted[row]))


def of_array(masks: MaskArray, listing: Listing) -> Masks:
    """Masks of an .npy file. Raises UserError where it has another form, or another number of them."""
    path = Path(masks.path).expanduser()
    try:
        array = read_array(path, mapped=True)
    except (ValueError, OSError) as error:
        damage = UserError(f"{display(path)}: no array of masks ({one_line(error)}); {REMEDY}")
        raise access_error(display(path), error) or damage from None
    if array.ndim != 3 or array.dtype != np.uint8 or len(array) != len(listing.labels):
        expected = f"expected uint8 ({len(listing.labels)}, H, W), a mask for each image"
        raise UserError(f"{display(path)}: {array.dtype} {array.shape}; {expected}")
    return Masks(tuple(masks.names), masks.ignore, np.arange(len(array)), lambda row: np.array(array[row]))


def by_threshold(masks: Threshold, listing: Listing) -> Masks:
    """Parts by brightness. Raises UserError for `by_class` without labels."""
    images = listing.images
    assert isinstance(images, np.ndarray)
    names = tuple(f"{low} to {high - 1}" for low, high in pairwise([0, *masks.levels, 256]))
    if masks.by_class:
        if not listing.classes:
            raise UserError("masks by_class need labels, which these images do not have; set by_class: false")
        names = ("background", *listing.classes)

    def parts(row: int) -> np.ndarray:
        part = np.digitize(images[row].mean(-1), masks.levels)  # (H, W), from 0
        return (part * (1 + listing.labels[row] if masks.by_class else 1)).astype(np.uint8)

    return Masks(names, None, np.arange(len(images)), parts)


def of_celebamask(masks: CelebAMask, listing: Listing) -> Masks:
    """A map of the parts of each face. Raises UserError for an image that has no annotation."""
    path = Path(masks.path).expanduser()
    root = path / ANNOTATIONS if (path / ANNOTATIONS).is_dir() else path
    stems = [PurePosixPath(name).stem for _, name in files_of(listing).entries]

    def parts(row: int) -> np.ndarray:
        files = dict(annotations(root, stems[row]))
        if not files:
            raise UserError(f"{display(root)}: has no annotation of image {display(stems[row])}; check the path")
        label: np.ndarray | None = None
        for value, file in files.items():
            part = read_mask(file)
            label = np.zeros_like(part) if label is None else label
            if part.shape != label.shape:
                raise UserError(f"{display(file)}: of another size than the other parts of its image; {REMEDY}")
            label[part > 0] = value
        assert label is not None
        return label

    return Masks(("background", *PARTS), None, np.arange(len(stems)), parts)


def annotations(root: Path, image: str) -> Iterator[tuple[int, Path]]:
    """The value and the file of each part that an image has."""
    if not (image.isascii() and image.isdigit()):
        return
    number = int(image)
    for value, name in enumerate(PARTS, start=1):
        file = root / str(number // IN_FOLDER) / f"{number:05d}_{name}.png"
        if file.is_file():
            yield value, file


def read_mask(path: Path) -> np.ndarray:
    """The values of a PNG, uint8 (h, w), of a palette the indices. Raises UserError for a damaged or coloured one."""
    data = read(path, LARGEST)
    if damage := png_damage(data):
        raise UserError(f"{display(path)}: is damaged ({damage}); {REMEDY}")
    try:
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            if lacks_rows(data):
                raise EOFError
            if image.mode in ("1", "L", "P"):
                return np.asarray(image, np.uint8) // grey_scale(data)
            if image.mode == "RGB":  # as CelebAMask-HQ saves grey
                red, *others = np.moveaxis(np.asarray(image), 2, 0)
                if all((red == other).all() for other in others):
                    return red
            mode = image.mode
    except Exception as error:  # decoders may raise anything for foreign bytes
        raise UserError(f"{display(path)}: cannot be decoded ({one_line(error)}); {REMEDY}") from None
    raise UserError(f"{display(path)}: a picture of mode {mode}; expected grey or palette, with classes as values")


def repeated(names: Iterable[str]) -> str | None:
    """The first of the names that comes more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def stem(name: str) -> str:
    """A name without its extension, `a/0`."""
    return str(PurePosixPath(name).with_suffix(""))


def files_of(listing: Listing) -> Files:
    assert isinstance(listing.images, Files)  # of every source that is not one of arrays
    return listing.images
