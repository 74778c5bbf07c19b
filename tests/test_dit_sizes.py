"""DiT's published sizes, by name: parameters, FLOPs, tensors."""

import pytest
import torch
from pydantic import ValidationError

from diffprobe.config.networks import Network
from diffprobe.networks.dit import DiT
from diffprobe.networks.flops import on_meta
from diffprobe.reporting.network_cost import tap_costs, whole_cost

IMAGENET = {"classes": 1000, "out_channels": 8}  # latents with learned variance (Peebles & Xie 2023)
LATENTS = (4, 32, 32)
PUBLISHED = {  # parameters with the fixed table, those trained, forward GMAC (the paper's "Gflops")
    "S/2": (32_963_360, 32_865_056, 6.06),
    "S/4": (32_945_024, 32_920_448, 1.41),
    "S/8": (33_148_160, 33_142_016, 0.36),
    "B/2": (130_512_416, 130_315_808, 23.01),
    "B/4": (130_475_648, 130_426_496, 5.57),
    "B/8": (130_881_536, 130_869_248, 1.42),
    "L/2": (458_102_816, 457_840_672, 80.70),
    "L/4": (458_053_760, 457_988_224, 19.70),
    "L/8": (458_594_816, 458_578_432, 5.01),
    "XL/2": (675_129_632, 674_834_720, 118.6),
    "XL/4": (675_074_432, 675_000_704, 29.04),
    "XL/8": (675_683_072, 675_664_640, 7.39),
}


def sizes(image: tuple[int, int, int] = LATENTS, shape: dict = IMAGENET, **settings: object) -> tuple[int, int, float]:
    counted = whole_cost(*on_meta(Network.member({"kind": "dit", **settings}), image, **shape))
    return counted["parameters"], counted["trainable"], counted["forward_flops"] / 2e9


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes(size: str) -> None:
    parameters, trainable, gmac = sizes(size=size)
    assert (parameters, trainable) == PUBLISHED[size][:2]
    assert gmac == pytest.approx(PUBLISHED[size][2], abs=0.05 if gmac > 100 else 0.005)


def test_published_sizes_of_relatives() -> None:
    assert sizes((4, 64, 64), size="XL/2")[0] == 676_014_368  # of 512 pixels
    assert sizes((4, 64, 64), size="XL/2")[2] == pytest.approx(524.5, abs=0.05)
    for position in ("rope", "gta"):
        assert sizes(size="B/2", position=position, qk_norm=True)[0] == 130_317_344
    assert sizes(size="B/2", qk_norm=True)[0] == 130_513_952
    # SiT-XL/2 with its discarded variance has DiT's tensors; DiT-PyTorch's for CelebA-HQ holds no table.
    assert sizes(shape={"classes": 1000}, size="XL/2", discard_variance=True)[0] == PUBLISHED["XL/2"][0]
    faces = {"size": "B/2", "position": "abs_rows", "time_embedding": "dit_pytorch"}
    assert sizes(shape={}, **faces)[:2] == (129_927_952, 129_927_952)


def test_a_size_by_name_is_the_same_network_as_by_numbers() -> None:
    named = Network.member({"kind": "dit", "size": "L/4", "mlp_ratio": 2.0})
    numbered = Network.member({"kind": "dit", "width": 1024, "depth": 24, "heads": 16, "patch": 4, "mlp_ratio": 2.0})
    assert named.argument() == numbered.argument() and named.options == numbered.options
    assert Network.member(named.argument()).options == named.options
    assert not list(Network.member({"kind": "dit", "size": "S/2", "width": 384}).problems("network", 32))
    contradicting = Network.member({"kind": "dit", "size": "S/2", "width": 768})
    assert list(contradicting.problems("network", 32)) == [
        ("network.size", "S/2", "null, for width 768; or S/2 without them")
    ]
    with pytest.raises(ValidationError):
        Network.member({"kind": "dit", "size": "M/2"})


def test_later_keys_are_in_no_argument_of_a_network_without_them() -> None:
    built = {"width", "depth", "heads", "patch", "mlp_ratio", "time_scale"}
    assert set(Network.member({"kind": "dit"}).argument()) == built | {*Network.usage}


def test_keys_are_those_of_the_published_checkpoints() -> None:
    with torch.device("meta"):
        keys = DiT(4, 1152, 28, 16, 2, classes=1000, out_channels=8).state_dict()
    assert len(keys) == 291  # and the table of positions, which exports add
    with torch.device("meta"):
        gta = DiT(4, 768, 12, 12, 2, classes=1000, out_channels=8, position="gta", qk_norm=True).state_dict()
    assert gta["blocks.11.attn.q_norm.scale"].shape == gta["blocks.0.attn.k_norm.scale"].shape == (64,)
    assert keys["blocks.27.attn.qkv.weight"].shape == (3456, 1152)
    assert keys["y_embedder.embedding_table.weight"].shape == (1001, 1152)
    assert keys["final_layer.linear.weight"].shape == (32, 1152)


def test_taps_cost_more_from_one_to_the_next() -> None:
    costs = tap_costs(*on_meta(Network.member({"kind": "dit", "size": "S/8"}), LATENTS))
    counts = [tap["flops"] for tap in costs]
    assert len(costs) == 36 and costs[0]["shape"] == [384, 4, 4] and sorted(set(counts))[-1] == counts[-2]
