"""DINOv2 as an extractor: the features of FD-DINOv2 (Stein et al., Exposing flaws of generative model evaluation
metrics and their unfair treatment of diffusion models, 2023).
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.evaluation.generation.extractors import weights
from diffprobe.evaluation.generation.extractors.base import (
    Extractor,
    Features,
    channels_first,
    coloured,
    exact,
    imagenet_normalised,
)
from diffprobe.networks.dinov2 import SIZES, DINOv2
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256

State = dict[str, Tensor]

WHAT = "DINOv2 weights"
URL = "https://dl.fbaipublicfiles.com/dinov2/{name}/{name}_pretrain.pth"
SIDE = 224
RESIZE = f"Stein et al. 2023: bicubic to {SIDE}x{SIDE}, antialiased, clamped to [0, 1], ImageNet mean and deviation"

# Parts of Hugging Face's names and Meta's, to be replaced in this order.
HUGGING_FACE = {
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "embeddings.": "",
    "encoder.layer.": "blocks.",
    ".attention.output.dense.": ".attn.proj.",
    ".attention.attention.": ".attn.",
    ".layer_scale1.lambda1": ".ls1.gamma",
    ".layer_scale2.lambda1": ".ls2.gamma",
    "layernorm.": "norm.",
}


def dinov2(size: str, file: str | None, device: torch.device | str) -> Extractor:
    """The normed class token of DINOv2 at `size` s, b or l: 384, 768 or 1024 features. Stein et al. use l.

    Images of any size; grey ones are repeated to three channels. They are resized in floats, not rounded to 8 bits
    after: what Stein et al.'s code does with `--clean_resize`.

    `file` is Meta's .pth, Hugging Face's model.safetensors or the folder that holds it; None is Meta's public
    download. UserError if the file is not to be had, is of another size or variant, or is not complete.
    """
    name = f"dinov2_vit{size}14"
    path = located(Path(file)) if file else weights.downloaded(URL.format(name=name), WHAT)
    network = dinov2_network(weights.read(path, WHAT), size, path).to(device)

    @exact
    def apply(images: Tensor) -> Features:
        return Features(network(prepared(images, device)))

    return Extractor(name, SIZES[size][0], sha256(path), RESIZE, apply)


def prepared(images: Tensor, device: torch.device | str) -> Tensor:
    """Images uint8 (B, H, W, 1 or 3) as the network takes them, (B, 3, 224, 224)."""
    x = coloured(channels_first(images, device) / 255, "DINOv2")
    x = F.interpolate(x, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)  # bicubic weights overshoot
    return imagenet_normalised(x)


def located(path: Path) -> Path:
    """The weights file: `path`, or what Hugging Face calls it in the folder `path`."""
    return path / "model.safetensors" if path.is_dir() else path


def dinov2_network(state: State, size: str, path: Path) -> DINOv2:
    """The network of `size`, filled from `state`, ready for inference; `path` is for errors."""
    state = meta_names(state)
    refuse_other_variants(state, size, path)
    with torch.device("meta"):  # nothing to initialise: every tensor is replaced
        network = DINOv2(*SIZES[size])
    what, remedy = f"{WHAT} {path}", "name a complete file of Meta or Hugging Face at `weights:`"
    filled = {
        name: weights.checked(state, name, value.shape, what, remedy).float()
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(filled, assign=True)
    return network.eval().requires_grad_(False)


def meta_names(state: State) -> State:
    """Tensors under Meta's names, from a file that has those or Hugging Face's; what is no tensor is left out."""
    renamed = {}
    for name, value in state.items():
        for theirs, ours in HUGGING_FACE.items():
            name = name.replace(theirs, ours)
        if isinstance(value, Tensor):
            renamed[name] = value
    return stacked(renamed)


def stacked(state: State) -> State:
    """Hugging Face's separate projections to queries, keys and values as one, `attn.qkv`, in this order."""
    parts = ("query", "key", "value")
    for name in [name for name in state if ".attn.query." in name]:
        tensors = [state.pop(name.replace("query", part), torch.empty(0)) for part in parts]
        if len({tensor.shape for tensor in tensors}) == 1:  # else it is found lacking
            state[name.replace("query", "qkv")] = torch.cat(tensors)
    return state


def refuse_other_variants(state: State, size: str, path: Path) -> None:
    """UserError where a file is whole, as it seems, but of another size or kind."""
    found = variant(state) if "norm.weight" in state else size
    if found != size:
        remedy = f"set `size: {found}`" if found in SIZES else "s, b and l without registers are known"
        raise UserError(f"{WHAT} {path} are of size {found}, not {size}: {remedy}, or name another file at `weights:`")


def variant(state: State) -> str:
    """`s`, `b` or `l`; else what it is instead, such as the giant or one with registers (Darcet et al. 2024)."""
    shape = state["norm.weight"].numel(), len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    size = next((size for size in SIZES if SIZES[size] == shape), f"{shape[0]} x {shape[1]} blocks")
    return f"{size} with registers" if "register_tokens" in state else size
