"""RoPE and GTA: what depends on relative positions alone, and what values carry, against a plain reference."""

import math

import pytest
import torch
from torch import Tensor
from toy_dit import small

from diffprobe.config.networks import Network
from diffprobe.networks.dit_blocks import Attention, RMSNorm
from diffprobe.networks.positions import grid_rotations, rotate

CPU = torch.device("cpu")
WIDTH, HEADS = 24, 2  # 12 channels per head: 3 frequencies per axis


def attention(position: str, qk_norm: bool = False) -> Attention:
    torch.manual_seed(0)
    made = Attention(WIDTH, HEADS, qk_norm, rotate_values=position == "gta").double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def matrices(places: Tensor, dim: int) -> Tensor:
    """The rotations (T, dim, dim) of tokens at places (T, 2), row and column, as block-diagonal matrices."""
    out = torch.zeros(len(places), dim, dim, dtype=torch.float64)
    for token, place in enumerate(places.tolist()):
        for pair in range(dim // 2):
            frequency = 10000 ** (-(pair // 2) / (dim // 4))
            angle = place[pair % 2] * frequency
            turn = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
            out[token, 2 * pair : 2 * pair + 2, 2 * pair : 2 * pair + 2] = torch.tensor(turn, dtype=torch.float64)
    return out


def plain(module: Attention, x: Tensor, places: Tensor, position: str) -> Tensor:
    """Attention as written in the papers: a rotation for each pair of tokens, and a softmax."""
    T, d = x.shape[1], WIDTH // HEADS
    rho = matrices(places, d)
    q, k, v = module.qkv(x).reshape(len(x), T, 3, HEADS, d).permute(2, 0, 3, 1, 4)
    if module.q_norm:
        q = q * module.q_norm.scale / (q.norm(dim=-1, keepdim=True) / d**0.5 + 1e-8)
        k = k * module.k_norm.scale / (k.norm(dim=-1, keepdim=True) / d**0.5 + 1e-8)
    relative = rho.mT[:, None] @ rho[None]  # (T, T, d, d): from the frame of j to that of i
    logits = torch.einsum("bhid,ijde,bhje->bhij", q, relative, k) / d**0.5
    carried = torch.einsum("ijde,bhje->bhijd", relative, v) if position == "gta" else v[:, :, None]
    mixed = (logits.softmax(-1)[..., None] * carried).sum(3)  # (B, heads, T, d)
    return module.proj(mixed.transpose(1, 2).flatten(2))


def grid(h: int, w: int) -> Tensor:
    return torch.cartesian_prod(torch.arange(h), torch.arange(w))


@torch.no_grad()
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("position", ["rope", "gta"])
def test_attention_is_that_of_the_papers(position: str, qk_norm: bool) -> None:
    module, x = attention(position, qk_norm), torch.randn(2, 12, WIDTH, dtype=torch.float64)
    own = module(x, grid_rotations(3, 4, WIDTH // HEADS, CPU).double())
    torch.testing.assert_close(own, plain(module, x, grid(3, 4), position), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_rotations_are_complex_products_and_keep_norms() -> None:
    """Pair 2k turns with the row, pair 2k + 1 with the column, at 10000^(-k / (dim/4))."""
    cos, sin = grid_rotations(3, 4, 12, CPU)
    x = torch.randn(2, 5, 12, 12)
    turned = rotate(x, cos, sin)
    angles = torch.stack([grid(3, 4) * 10000 ** (-k / 3) for k in range(3)], dim=1).flatten(1)  # (T, 6)
    product = torch.view_as_complex(x.unflatten(-1, (6, 2))) * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(turned, torch.view_as_real(product).flatten(-2))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(rotate(turned, cos, -sin), x)
    assert turned.bfloat16().dtype == rotate(x.bfloat16(), cos, sin).dtype  # not promoted by the table


@torch.no_grad()
@pytest.mark.parametrize("position", ["rope", "gta"])
def test_only_relative_positions_matter(position: str) -> None:
    """The same tokens elsewhere on a larger grid give the same output; in another arrangement they do not."""
    module, x = attention(position), torch.randn(2, 6, WIDTH, dtype=torch.float64)
    table = grid_rotations(9, 9, WIDTH // HEADS, CPU).double().unflatten(1, (9, 9))
    at = [module(x, table[:, r : r + 2, c : c + 3].flatten(1, 2)) for r, c in ((0, 0), (5, 1), (7, 6))]
    torch.testing.assert_close(at[1], at[0], rtol=1e-5, atol=1e-4)  # the table is in float32
    torch.testing.assert_close(at[2], at[0], rtol=1e-5, atol=1e-4)
    turned = module(x, table[:, :3, :2].flatten(1, 2))
    assert (turned - at[0]).abs().max() > 1e-3


@torch.no_grad()
def test_tokens_at_one_place_are_attended_as_without_positions() -> None:
    for position in ("rope", "gta"):
        module, x = attention(position), torch.randn(2, 6, WIDTH, dtype=torch.float64)
        same = grid_rotations(4, 4, WIDTH // HEADS, CPU).double()[:, 10:11].expand(-1, 6, -1)
        torch.testing.assert_close(module(x, same), module(x), rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_gta_carries_positions_in_values_and_rope_does_not() -> None:
    """Where all tokens are attended alike (queries are zero), RoPE's output knows no positions; GTA's does."""
    table = grid_rotations(2, 3, WIDTH // HEADS, CPU).double()
    outputs = {}
    for position in ("rope", "gta"):
        module, x = attention(position), torch.randn(1, 6, WIDTH, dtype=torch.float64)
        module.qkv.weight[:WIDTH], module.qkv.bias[:WIDTH] = 0, 0
        outputs[position] = module(x, table)[0], module(x)[0]
    torch.testing.assert_close(*outputs["rope"])
    assert outputs["rope"][0].std(0).max() < 1e-6 < outputs["gta"][0].std(0).max()
    assert (outputs["gta"][0] - outputs["gta"][1]).abs().max() > 1e-2


def test_rms_norm_is_that_of_gta() -> None:
    """But for its 1e-8, which is below rounding where x is not tiny."""
    norm, x = RMSNorm(12), torch.randn(4, 12) * torch.tensor([[0.01], [0.1], [1], [100]])
    torch.nn.init.normal_(norm.scale)
    root = x.norm(dim=-1, keepdim=True) / 12**0.5
    torch.testing.assert_close(norm(x), x * norm.scale / (root + 1e-8), rtol=1e-5, atol=1e-6)
    assert not norm(torch.zeros(1, 12)).any()


def test_heads_must_divide_into_pairs_of_both_axes() -> None:
    settings = {"kind": "dit", "width": 36, "heads": 6}
    assert not list(Network.member(settings).problems("network", 32))
    problems = list(Network.member(settings | {"position": "gta"}).problems("network", 32))
    assert [(key, value) for key, value, _ in problems] == [("network.heads", 6)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("position", ["abs", "rope", "gta"])
@pytest.mark.parametrize("qk_norm", [False, True, "layer"])
def test_bfloat16_is_as_near_with_every_code(position: str, qk_norm: bool | str) -> None:
    network, x, t = small(position=position, qk_norm=qk_norm), torch.randn(2, 4, 8, 8), torch.rand(2)
    expected = network(x, t)[0]
    with torch.autocast("cpu", torch.bfloat16):
        out = network(x, t)[0]
    out.float().square().mean().backward()
    assert (out - expected).norm() / expected.norm() < 0.02
    assert all(parameter.grad is not None for parameter in network.blocks.parameters())
