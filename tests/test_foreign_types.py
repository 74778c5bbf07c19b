"""Files of other systems that are of another type than expected: one line each, whichever key it is."""

import gc
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_networks import OURS, SMALL, config, diffusers_model, refusal, saved

from diffprobe.config.autoencoders import Pretrained
from diffprobe.config.networks.diffusers import Diffusers
from diffprobe.interop import ddae
from diffprobe.interop.importing import import_weights
from diffprobe.interop.latents.arrays import numbered_files
from diffprobe.interop.latents.peers import as_labels, read_npy
from diffprobe.interop.wrappers import unwrapped, weights_of
from diffprobe.runtime.errors import UserError

WRONG: tuple[Any, ...] = (None, True, -1, 0, 10**9, 1.5, "x", [], [1.5], ["x"], [10**9], {}, {"a": 1})
SIZED = ("block_out_channels", "layers_per_block", "in_channels", "norm_num_groups", "down_block_types")
AUTOENCODER = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "norm_num_groups": 4,
}


@pytest.mark.parametrize("key", SIZED)
@pytest.mark.parametrize("value", WRONG, ids=map(str, WRONG))
def test_a_key_of_another_type_is_refused_by_config_and_import(key: str, value: Any, tmp_path: Path) -> None:
    folder = saved(diffusers_model(), tmp_path / "model")
    (folder / "config.json").write_text(json.dumps(SMALL | {key: value}))
    line = refusal(import_weights, config(OURS), "x", "diffusers", str(folder), tmp_path / "x.safetensors")
    assert key in line
    assert len(line.splitlines()) == 1
    problems = list(Diffusers(kind="diffusers", path=str(folder)).problems("network", 8))
    assert all(key_at_fault == "network.path" for key_at_fault, _, _ in problems)
    assert problems or key in ("in_channels", "norm_num_groups", "down_block_types")  # which its class may refuse


@pytest.mark.parametrize("content", ["[]", "5", "null", "{", "[" * 100_000, '{"in_channels": NaN}', '"text"'])
def test_a_config_that_is_no_mapping_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    line = refusal(import_weights, config(OURS), "x", "diffusers", str(tmp_path), tmp_path / "x.safetensors")
    assert line.startswith(f"{tmp_path}/config.json: cannot be read: ")
    assert list(Diffusers(kind="diffusers", path=str(tmp_path)).problems("network", 8))
    assert list(Pretrained(kind="pretrained", source=str(tmp_path)).problems("autoencoders.a"))


@pytest.mark.parametrize("key", ["block_out_channels", "layers_per_block", "latent_channels", "scaling_factor"])
@pytest.mark.parametrize("value", [True, -(10**7), "x", [], ["x"], {}], ids=str)
def test_a_key_of_an_autoencoder_of_another_type_is_named(key: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(AUTOENCODER | {key: value}))
    problems = Pretrained(kind="pretrained", source=str(tmp_path), size=16, factor=2).problems("autoencoders.a")
    assert any(f"({key}" in allowed for _, _, allowed in problems)


def holding_itself() -> dict[str, Any]:
    state: dict[str, Any] = {}
    state["state_dict"] = state
    return state


CONTENTS: dict[str, Any] = {
    "nothing": {},
    "no tensors": {"a": 5},
    "itself": holding_itself(),
    "nothing in its place": {"MODEL": None, "EMA": None},
    "a list in its place": {"MODEL": [torch.zeros(1)]},
    "names that are no text": {("a",): torch.zeros(1)},
    "no values": {"a": torch.zeros(1, device="meta")},
    "ragged": {"a": torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)])},
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_a_state_dict_of_another_type_is_refused(content: dict[str, Any]) -> None:
    assert refusal(ddae.sets, content, "w.pt").startswith("w.pt: ")
    assert refusal(unwrapped, weights_of(content), "w.pt").startswith("w.pt: ")


def npy(shape: str, dtype: str = "'<f4'") -> bytes:
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"PK\x05\x06" + bytes(18),  # an empty .npz by another name
        npy("(10**15, 4, 2, 2)"),
        npy("(1000000000000, 4, 2, 2)"),
        npy("(-1,)"),
        npy("(True,)") + bytes(4),
        npy("(1, 4"),
        npy("{[]: 1}"),
        npy("(2,)", "'|O'"),
        npy("(10**15,)", "'<U0'"),
    ],
)
def test_an_array_is_no_larger_than_its_file(content: bytes, mapped: bool, tmp_path: Path) -> None:
    (tmp_path / "0.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"0.npy: cannot be read \(.*\); make it again") as error:
        read_npy(tmp_path / "0.npy", mapped)
    assert len(str(error.value)) < 400


def test_threads_read_arrays_at_once(tmp_path: Path) -> None:
    path = tmp_path / "0.npy"
    np.save(path, np.arange(4, dtype=np.float32))

    def read(_: int) -> float:
        return float(read_npy(path, mapped=False).sum())

    def hand_over(phase: str, info: dict[str, int]) -> None:
        time.sleep(1e-4)

    usual = gc.get_threshold()
    gc.freeze()  # what the other tests hold makes collections slow
    gc.callbacks.append(hand_over)  # a collection while one header is parsed lets another thread begin with its own
    try:
        with ThreadPoolExecutor(8) as pool:
            for threshold in range(5, 45):
                gc.set_threshold(threshold)
                assert set(pool.map(read, range(40))) == {6.0}
    finally:
        gc.callbacks.remove(hand_over)
        gc.set_threshold(*usual)
        gc.unfreeze()


@pytest.mark.parametrize("label", [2_000_000_000, -5, 2**63])
def test_labels_beyond_any_classes_are_refused(label: int) -> None:
    values = np.array([0, label], np.uint64 if label > 2**62 else np.int64)
    with pytest.raises(UserError, match=f"labels.npy: holds labels .*{label}.*; labels count from 0"):
        as_labels(Path("labels.npy"), values, 2)


def test_a_file_of_a_number_beyond_64_bits_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"{'9' * 25}.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"9.npy: expected a number as name"):
        numbered_files(tmp_path)
