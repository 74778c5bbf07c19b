"""DINOv2 as an extractor: the features of FD-DINOv2 (Stein et al., Exposing flaws of generative model evaluation
metrics and their unfair treatment of diffusion models, 2023).
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.config.extractors.dinov2 import DINOv2Extractor
from diffprobe.data.pixels import imagenet_normalised
from diffprobe.evaluation.generation.extractors.base import (
    FeatureExtractor,
    Features,
    channels_first,
    exact,
    to_rgb,
)
from diffprobe.evaluation.generation.extractors.weights import checked, downloaded, read
from diffprobe.networks.dinov2 import SIZES, DINOv2
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256

State = dict[str, Tensor]

WHAT = "DINOv2 weights"
URL = "https://dl.fbaipublicfiles.com/dinov2/{name}/{name}_pretrain.pth"
# By size. Meta states none; these are what many public projects, independently, report of its files.
SHA256 = {
    "s": "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    "b": "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    "l": "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
}
SIDE = 224
RESIZE = f"Stein et al. 2023: bicubic to {SIDE}x{SIDE}, antialiased, clamped to [0, 1], ImageNet mean and deviation"

# Parts of Hugging Face's names and Meta's, replaced in this order: longer ones come before their prefixes.
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


def make(settings: DINOv2Extractor, weights: Path | None, device: torch.device) -> FeatureExtractor:
    """The normed class token of DINOv2 of size s, b or l: 384, 768 or 1024 features. Stein et al. use l.

    Images of any size; grey ones are repeated to three channels. They are resized in floats and not rounded to 8 bits
    afterwards, as Stein et al.'s code does with `--clean_resize`.

    The weights are Meta's .pth, Hugging Face's model.safetensors or the folder that holds it; without them, Meta's
    public download. UserError if they cannot be read, are of another size or variant, or are incomplete.
    """
    file = weights or settings.weights
    url = URL.format(name=settings.printed_name)
    path = weights_file(Path(file)) if file else downloaded(url, WHAT, SHA256[settings.size])
    network = load_network(read(path, WHAT), settings.size, path).to(device)

    @exact
    def apply(images: Tensor) -> Features:
        return Features(network(prepared(images, device)))

    return FeatureExtractor(settings.printed_name, SIZES[settings.size][0], sha256(path), RESIZE, apply)


def prepared(images: Tensor, device: torch.device) -> Tensor:
    """Images uint8 (B, H, W, 1 or 3) as the network takes them, (B, 3, 224, 224)."""
    x = to_rgb(channels_first(images, device) / 255, "DINOv2")
    x = F.interpolate(x, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)  # bicubic interpolation overshoots
    return imagenet_normalised(x)


def weights_file(path: Path) -> Path:
    """`path`, or the weights file in the folder `path`, by its name on the Hugging Face hub."""
    return path / "model.safetensors" if path.is_dir() else path


def load_network(state: State, size: str, path: Path) -> DINOv2:
    """The network of `size`, filled from `state`, in evaluation mode; `path` is for errors."""
    state = meta_names(state)
    refuse_other_variants(state, size, path)
    with torch.device("meta"):  # nothing to initialise: every tensor is replaced
        network = DINOv2(*SIZES[size])
    what, remedy = f"{WHAT} {path}", "name a complete file of Meta or Hugging Face at `weights:`"
    tensors = {
        name: checked(state, name, value.shape, what, remedy).float() for name, value in network.state_dict().items()
    }
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)


def meta_names(state: State) -> State:
    """Tensors under Meta's names, from a file with those or Hugging Face's; anything else in it is left out."""
    renamed = {}
    for name, value in state.items():
        for theirs, ours in HUGGING_FACE.items():
            name = name.replace(theirs, ours)
        if isinstance(value, Tensor):
            renamed[name] = value
    return stack_projections(renamed)


def stack_projections(state: State) -> State:
    """Join Hugging Face's separate projections to queries, keys and values to Meta's `attn.qkv`, in this order."""
    parts = ("query", "key", "value")
    for name in [name for name in state if ".attn.query." in name]:
        tensors = [state.pop(name.replace("query", part), torch.empty(0)) for part in parts]
        if len({tensor.shape for tensor in tensors}) == 1:  # otherwise `qkv` is missing, which `load_network` reports
            state[name.replace("query", "qkv")] = torch.cat(tensors)
    return state


def refuse_other_variants(state: State, size: str, path: Path) -> None:
    """UserError where the weights are those of another size or variant, which says more than a missing tensor."""
    actual = variant(state) if "norm.weight" in state else size
    if actual != size:
        remedy = f"set `size: {actual}`" if actual in SIZES else "supported are s, b and l without registers"
        raise UserError(f"{WHAT} {path} are of size {actual}, not {size}: {remedy}, or name another file at `weights:`")


def variant(state: State) -> str:
    """`s`, `b` or `l`, or a description of another, such as the giant or one with registers (Darcet et al. 2024)."""
    shape = state["norm.weight"].numel(), len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    size = next((size for size in SIZES if SIZES[size] == shape), f"{shape[0]} x {shape[1]} blocks")
    return f"{size} with registers" if "register_tokens" in state else size
