"""Hostile input of `diffprobe measure`: references, arrays, features, extractors, numbers."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import flipped, flips, whole_file, written
from harness import Sandbox, complaints
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

DIM = 64  # features of the session's classifier


def images(n: int = 40, size: int = 8, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, size, size, channels), dtype=np.uint8)


@pytest.fixture
def folder(sandbox: Sandbox, extractor: list[str]) -> Path:
    """Two arrays of images, and statistics of one."""
    np.savez(sandbox.work / "a.npz", arr_0=images(40))
    np.savez(sandbox.work / "b.npz", arr_0=images(50))
    sandbox.ends_well("measure", "b.npz", "--save", "kept.npz", *extractor)
    sandbox.ends_well("measure", "a.npz", "--against", "kept.npz", *extractor)
    return sandbox.work


def kept(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "kept.npz") as file:
        return dict(file)


def changed(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[dict[str, np.ndarray]], dict[str, Any]]:
    return lambda arrays: arrays | {name: change(arrays[name])}


def with_value(array: np.ndarray, value: float, dtype: Any = None) -> np.ndarray:
    copy = np.array(array, dtype)
    copy.reshape(-1)[0] = value
    return copy


ABOUT = ("", "[]", "7", "{", '{"origin": 7}', '{"extractor": []}', '{"extractor": {"name": 7}}', "nul\0", 7)
ABOUT += (["{}", "{}"], "[" * 50_000, '{"extractor": {"name": "x"}}', '{"extractor": null}')
ABOUT += ('{"origin": "a\\nb\\u001b[2J", "extractor": {"dim": 1}}',)

STATISTICS: dict[str, Callable[[dict[str, np.ndarray]], dict[str, Any]]] = {
    **{
        f"{name} of {what}": changed(name, change)
        for name in ("mu", "sigma", "features")
        for what, change in {
            "NaN": lambda a: with_value(a, np.nan),
            "infinity": lambda a: with_value(a, np.inf),
            "complex numbers": lambda a: a.astype(np.complex128),
            "text": lambda a: a.astype("U8"),
            "objects": lambda a: a.astype(object),
            "truth": lambda a: a > 0,
            "dates": lambda a: a.astype(np.int64).astype("datetime64[s]"),
            "records": lambda a: np.zeros(a.shape, [("x", "f8")]),
            "one dimension more": lambda a: a[None],
            "no dimension": lambda a: np.float64(1),
            "nothing": lambda a: a[:0],
            "one row less": lambda a: a[..., :-1],
            "bytes": lambda a: np.frombuffer(b"x" * a.size, "S1").reshape(a.shape),
        }.items()
    },
    "negative variances": changed("sigma", lambda a: -a - np.eye(len(a))),
    "a covariance that is not symmetric": changed("sigma", lambda a: a + np.triu(np.ones_like(a))),
    **{
        f"n of {value!r}": changed("n", lambda _, value=value: np.array(value))
        for value in (-1, 0, 0.5, np.nan, np.inf, "many", b"9", [1, 2], True, 1j, None, 10**30, [[50]])
    },
    **{
        f"about of {value!r}": changed("about", lambda _, value=value: np.array(value))
        for value in ABOUT
    },
    "no mu": lambda arrays: {name: array for name, array in arrays.items() if name != "mu"},
    "no sigma": lambda arrays: {name: array for name, array in arrays.items() if name != "sigma"},
    "nothing": lambda arrays: {},
    "more rows of features than images": lambda arrays: arrays | {"features": np.zeros((99, DIM), np.float32)},
    "statistics of other features": lambda arrays: arrays | {"mu": np.zeros(9), "sigma": np.eye(9)},
}  # fmt: skip


def test_hostile_statistics(sandbox: Sandbox, folder: Path, extractor: list[str]) -> None:
    wrong: list[str] = []
    arrays = kept(folder)
    for what, change in STATISTICS.items():
        np.savez(folder / "bad.npz", **change(arrays))
        wrong += refused(sandbox, what, extractor, "a.npz", "--against", "bad.npz")
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def refused(sandbox: Sandbox, what: str, extractor: list[str], *words: object, named: str = "bad") -> list[str]:
    sandbox.inputs += 1
    with sandbox.unchanged():
        outcome = sandbox.run("measure", *words, *extractor)
    return [f"{what}: {line}" for line in complaints(outcome, named)]


def test_declared_sizes_are_not_believed(sandbox: Sandbox, folder: Path, extractor: list[str]) -> None:
    """Arrays whose headers, or whose zip, declare more than there is, or than anybody has."""
    wrong: list[str] = []
    for what, name, content in bombs(kept(folder)):
        written(folder / name, content)
        wrong += refused(sandbox, what, extractor, "a.npz", "--against", name)
        wrong += refused(sandbox, f"as images: {what}", extractor, name, "--against", "b.npz")
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def header(shape: tuple[int, ...], dtype: str = "|u1", more: bytes = b"") -> bytes:
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + more


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def bombs(arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, str, bytes]]:
    good = {name: saved(array) for name, array in arrays.items()}
    for name in ("mu", "sigma", "features", "n", "about"):
        for shape in ((10**9,), (10**6, 10**6), (2**62,), (-1,), (10**30,)):
            dtype = "<U999999" if name == "about" else "<f8"
            yield f"{name} {shape}", "bad.npz", zipped(**(good | {name: header(shape, dtype, bytes(64))}))
    yield "zeros of 2 GB", "bad.npz", zipped(**(good | {"mu": header((DIM,), "<f8", bytes(1 << 31))}))
    for shape in (
        (10**9, 8, 8, 3),
        (40, 10**6, 10**6, 3),
        (2**62, 8, 8, 3),
        (-40, 8, 8, 3),
        (40, 8, 8, -3),
        (0, 8, 8, 3),
        (),
    ):
        yield f"images {shape}", "bad.npy", header(shape, more=bytes(9000))
        yield f"images {shape}", "bad.npz", zipped(arr_0=header(shape, more=bytes(9000)))
    for dtype in ("<f8", "|O", "<U4", "|b1", "|i1", "<c16", "<M8[s]", "V3", ">u2"):
        yield f"images of {dtype}", "bad.npy", header((40, 8, 8, 3), dtype, bytes(8 * 40 * 8 * 8 * 3))
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': "
    for tail in (
        b"().__class__.__base__}",
        b"(__import__('os').system('touch x'),)}",
        b"(1e9,)}",
        b"None}",
        b"(True, 8, 8, 3)}",
        b"(40, 8, 8, 3)",
    ):
        body = (text + tail).ljust(118) + b"\n"
        yield (
            f"a header of {tail!r}",
            "bad.npy",
            b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body + bytes(7680),
        )
    yield "a header of 4 GB", "bad.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(9000)
    yield "a header of another version", "bad.npy", b"\x93NUMPY\x09\x00" + header((40, 8, 8, 3), more=bytes(7680))[8:]
    yield "Fortran's order", "bad.npy", saved(np.asfortranarray(images()))
    yield "a picture of two channels", "bad.npy", saved(images(channels=2))
    yield "oblong pictures", "bad.npy", saved(images()[:, :5])


def test_damaged_arrays(sandbox: Sandbox, folder: Path, extractor: list[str]) -> None:
    wrong: list[str] = []
    np.save(folder / "good.npy", images())
    for source, name in (("a.npz", "bad.npz"), ("kept.npz", "bad.npz"), ("good.npy", "bad.npy")):
        for what, content in whole_file((folder / source).read_bytes()):
            if source == "good.npy" and what in ("a picture in its middle",):
                continue  # pixels as good as any
            written(folder / name, content)
            wrong += refused(sandbox, f"{source}: {what}", extractor, name, "--against", "b.npz")
            wrong += refused(sandbox, f"against {source}: {what}", extractor, "b.npz", "--against", name)
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


@pytest.mark.parametrize("name", ["a.npz", "kept.npz"])
def test_no_turned_bit_passes(name: str, sandbox: Sandbox, folder: Path, extractor: list[str]) -> None:
    """Of images in an .npz, or of statistics: refused, or the figures are the same."""
    content = (folder / name).read_bytes()
    bits = np.random.default_rng(1).integers(0, 8 * len(content), 120).tolist()
    directory = content.rindex(b"PK\x01\x02")
    bits += list(range(0, 8 * 120, 7)) + list(range(8 * directory, 8 * len(content), 5))

    def measure_all() -> None:
        from diffprobe.__main__ import main
        from diffprobe.runtime.errors import UserError

        def figures() -> list[object]:
            words = ["a.npz", "--against", name if name == "kept.npz" else "b.npz", "--json", "out.json"]
            parsed = parse(["measure", *words, *extractor])
            parsed.function(parsed)
            return json.loads(Path("out.json").read_text())["figures"]

        import contextlib
        import io as text

        from diffprobe.__main__ import parser

        parse = parser().parse_args
        assert main
        with contextlib.redirect_stdout(text.StringIO()):
            sound = figures()
        for bit in bits:
            written(folder / name, flipped(content, bit))
            with contextlib.redirect_stdout(text.StringIO()), contextlib.redirect_stderr(text.StringIO()):
                try:
                    same, line = figures() == sound, name
                except UserError as error:
                    same, line = True, str(error)
            if not same or name not in line or "\n" in line:
                print(f"bit {bit}: {line if same else 'passed'}")

    sandbox.inputs += len(bits)
    outcome = sandbox.call(measure_all, seconds=300)
    assert outcome.status == 0 and not outcome.out and not outcome.crash, outcome


NUMBERS = ["0", "-1", "1.5", "x", "", "1e3", "99999999999999999999999", "nan", "０", "1_000", " 7", "0x10", "inf"]


def test_hostile_numbers(sandbox: Sandbox, folder: Path, extractor: list[str]) -> None:
    wrong: list[str] = []
    for option in (
        "--size",
        "--batch",
        "--processes",
        "--subset",
        "--channels",
        "--figures",
        "--splits",
        "--extractor",
    ):
        for value in NUMBERS:
            if option in ("--batch", "--subset") and value in ("99999999999999999999999", "1_000", " 7", "０"):
                continue  # a batch of everything
            if option in ("--size", "--processes") and value in ("1_000", " 7"):
                continue
            sandbox.inputs += 1
            words = [
                "a.npz",
                f"{option}={value}",
                "--against",
                "b.npz",
                *(extractor if option != "--extractor" else []),
            ]
            with sandbox.unchanged():
                outcome = sandbox.run("measure", *words)
            wrong += [f"{option} {value!r}: {line}" for line in complaints(outcome, option)]
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def weights_of_other_kinds() -> Iterator[tuple[str, bytes]]:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, file)
    yield "a state dict of others", file.getvalue()
    file = io.BytesIO()
    torch.save([1, 2], file)
    yield "a list", file.getvalue()
    yield "a pickle with code", b"cos\nsystem\n(S'touch owned'\ntR."
    yield from whole_file(file.getvalue())


@pytest.mark.parametrize("kind", ["inception", "dinov2", "torchscript", "classifier"])
def test_hostile_weights_of_extractors(kind: str, sandbox: Sandbox, folder: Path) -> None:
    wrong: list[str] = []
    trust = ["--trusted"] if kind == "torchscript" else []
    for suffix in ("pth", "safetensors", "pt"):
        for what, content in weights_of_other_kinds():
            written(folder / f"bad.{suffix}", content)
            words = ["--extractor", kind, f"weights=bad.{suffix}", *trust]
            wrong += refused(sandbox, f"{suffix}: {what}", words, "a.npz", "--against", "b.npz")
    for name in ("nowhere.pth", ".", "/dev/null", "mine.txt"):
        words = ["--extractor", kind, f"weights={name}", *trust]
        wrong += refused(sandbox, name, words, "a.npz", "--against", "b.npz", named=name)
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def test_damaged_weights_of_a_classifier(sandbox: Sandbox, folder: Path, extractor: list[str]) -> None:
    content = Path(extractor[-1].removeprefix("weights=")).read_bytes()
    wrong: list[str] = []
    for what, damaged in [*whole_file(content), *flips(content, 30)]:
        written(folder / "bad.safetensors", damaged)
        words = ["--extractor", "classifier", "weights=bad.safetensors"]
        wrong += refused(sandbox, what, words, "a.npz", "--against", "b.npz")
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


EXTRACTORS = {  # by kind, what follows it
    "inception": (
        "dims=0", "dims=64.5", "dims=[64]", "dims={a: b}", "dims=&a [*a]", "dims=!!python/name:os.system", "nope=1",
        "kind=dinov2", "=64", "dims", "weights=$NOT_SET", "weights=7", 'dims="\\ud800"', "dims=2024-13-13",
        "dims=" + "[" * 5000,
    ),
    "dinov2": ("size=xxl", "size=[l]", "size="),
    "torchscript": ("weights=x.pt", "weights=", "nope=1"),
    "classifier": ("weights=", "weights=[x]", "weights=7", "weights=null", 'weights="a\\0b"', "dims=64"),
    "nobody": ("x=1",),
    "": ("x=1",),
    "a\nb": ("x=1",),
    "\x1b[2J": ("x=1",),
}  # fmt: skip


def test_hostile_extractors(sandbox: Sandbox, folder: Path) -> None:
    wrong: list[str] = []
    for words in [
        *((kind, pair) for kind, pairs in EXTRACTORS.items() for pair in pairs),
        ("classifier",),
        ("nobody",),
    ]:
        wrong += refused(sandbox, f"{words}"[:80], ["--extractor", *words], "a.npz", "--against", "b.npz", named="")
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def test_hostile_outputs(sandbox: Sandbox, folder: Path, extractor: list[str]) -> None:
    """Files and folders that may not be replaced, or cannot be written."""
    wrong: list[str] = []
    (folder / "taken").mkdir()
    (folder / "taken" / "x").touch()
    (folder / "link.npz").symlink_to("../outside/precious.txt")
    (folder / "link.json").symlink_to("../outside/precious.txt")
    (folder / "user.json").write_text('{"mine": 1}')
    (folder / "list.json").write_text("[]")
    (folder / "folder.npz").mkdir()
    (folder / "folder.json").mkdir()
    taken = ["taken", "mine.txt", "a.npz", "mine.txt/x.npz", "/proc/x.npz", "x" * 300 + ".npz"]
    for option, names in {
        "--save": [*taken, "link.npz", "folder.npz", "", ".npz"],
        "--json": [*taken, "link.json", "user.json", "list.json", "folder.json"],
    }.items():
        for name in names:
            words = ["a.npz", "--against", "b.npz", option, name]
            wrong += refused(sandbox, f"{option} {name[:30]!r}", extractor, *words, named=name[:200])
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


FEATURE = st.sampled_from([np.nan, np.inf, -np.inf, 2.0, -300.0, 255.0, 1e30])


def test_hostile_images_in_python(sandbox: Sandbox, finished: Path) -> None:
    """`diffprobe.load(run).features` refuses what is no image, or no image in [-1, 1], in one line."""
    import diffprobe

    wrong: list[str] = []

    @settings(max_examples=60, derandomize=True, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(
        st.sampled_from([np.float32, np.float64, np.int64, np.complex64, bool, object, "U3"]),
        FEATURE,
        st.integers(0, 5),
        st.booleans(),
    )
    def check(dtype: Any, value: float, dimensions: int, whole: bool) -> None:
        array = np.zeros((2, 1, 8, 8)[:dimensions] if dimensions < 4 else (2, 1, 8, 8) + (1,) * (dimensions - 4))
        array = array.astype(dtype)
        if array.ndim and array.dtype.kind in "fc":
            array[(0,) * array.ndim if not whole else ...] = value
        outcome = sandbox.call(lambda: features(array))
        sandbox.inputs += 1
        wrong.extend(f"{dtype} {array.shape} {value}: {line}" for line in complaints(outcome, ""))

    def features(array: object) -> None:
        import sys

        from diffprobe.runtime.errors import UserError

        try:
            diffprobe.load(finished / "results" / "runs" / "tiny").features(array, 0.1, "mid")
        except UserError as error:
            sys.exit(str(error))

    check()
    for other in ("x", None, [], {}, [[1]], "images.h5", 7, object()):
        sandbox.inputs += 1
        wrong += [f"{other!r}: {line}" for line in complaints(sandbox.call(partial(features, other)), "")]
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)
