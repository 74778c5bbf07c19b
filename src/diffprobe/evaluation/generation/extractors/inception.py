"""The Inception-v3 of the FID, as pytorch-fid ports it: features, sFID's map, the Inception score's logits."""

from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.evaluation.generation.extractors import weights
from diffprobe.evaluation.generation.extractors.base import Extractor, Features, channels_first, coloured, exact
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256

# The last layer that each of pytorch-fid's feature widths needs; a file may end there.
LAST_LAYER = {64: "Conv2d_2b_3x3", 192: "Conv2d_4a_3x3", 768: "Mixed_6e", 2048: "Mixed_7c"}
WHAT = "Inception weights"
HEAD = "fc.weight"
CLASSES = 1008
MAP = (7, 17, 17)  # sFID: the first 7 channels of Mixed_6d, TensorFlow's mixed_6/conv (Nash et al. 2021, ADM's choice)
RESIZE = "pytorch-fid: bilinear to 299x299, half-pixel centres, no antialiasing"


def inception(dims: int, file: str | None, device: torch.device | str) -> Extractor:
    """The FID Inception-v3 of pytorch-fid at `dims` 64, 192, 768 or 2048, averaged over positions.

    Images of any size are resized to 299 x 299 by pytorch-fid itself; gray ones (C = 1) are repeated to three
    channels. From 768 dims on there is sFID's map (2,023 values in TensorFlow's order), at 2048 logits without bias
    as ADM and torch-fidelity take them, if the file holds fc.weight.

    `file` is a .safetensors or .pth file with pytorch-fid's key names, None its public download. It may leave out
    layers that `dims` does not need, and its batch norms may be folded into the convolutions if they are left there
    as neutral ones (weight 1, mean 0, variance 1 - eps) with the bias. UserError if the file is not to be had, or
    lacks a layer.
    """
    if dims not in LAST_LAYER:
        raise UserError(f"Inception features have dims {', '.join(map(str, LAST_LAYER))}, not {dims}")
    path = Path(file) if file else public_weights()
    state = weights.read(path, WHAT)
    network = inception_network(state, dims, path).to(device, memory_format=torch.channels_last).eval()
    head = state[HEAD].to(device) if dims == 2048 and HEAD in state else None  # (K, 2048)
    seen: list[Tensor] = []  # Mixed_6d's output, in the middle of pytorch-fid's third block
    if dims >= 768:
        network.blocks[2][6].register_forward_hook(lambda _, __, output: seen.append(output[:, : MAP[0]]))

    @exact
    def apply(images: Tensor) -> Features:
        maps = network(coloured(channels_first(images, device) / 255, "Inception"))[0]  # (B, D, H', W')
        pooled = F.adaptive_avg_pool2d(maps, 1).flatten(1)  # (B, D)
        spatial = seen.pop().permute(0, 2, 3, 1).flatten(1) if seen else None  # (B, 17 * 17 * 7)
        return Features(pooled, spatial, None if head is None else pooled @ head.T)

    spatial = MAP[0] * MAP[1] * MAP[2] if dims >= 768 else 0
    classes = 0 if head is None else len(head)
    return Extractor(f"inception_{dims}", dims, sha256(path), RESIZE, apply, spatial, classes)


def public_weights() -> Path:
    """pytorch-fid's public weights, downloaded now if they are not there."""
    from pytorch_fid.inception import FID_WEIGHTS_URL

    # The name ends in the first digits of the file's hash.
    return weights.downloaded(FID_WEIGHTS_URL, WHAT, Path(FID_WEIGHTS_URL).stem.rsplit("-", 1)[1])


def inception_network(state: dict[str, Tensor], dims: int, path: Path) -> nn.Module:
    """pytorch-fid's network up to the layer that `dims` needs, filled from `state`; `path` is for errors."""
    import pytorch_fid.inception as fid
    import torchvision

    with torch.device("meta"):
        whole = torchvision.models.inception_v3(num_classes=CLASSES, aux_logits=False, weights=None, init_weights=False)
    shapes = {name: value.shape for name, value in whole.state_dict().items()}  # in the order of computation
    filled = {name: torch.zeros(shape) for name, shape in shapes.items()}
    for name in needed(list(shapes), dims):
        what = f"{WHAT} {path} for dims {dims}"
        filled[name] = weights.checked(state, name, shapes[name], what, "choose smaller dims or a complete file")
    # pytorch-fid builds and downloads in one step: it gets our tensors in place of its download.
    with patch.object(fid, "load_state_dict_from_url", lambda *_, **__: filled):
        return fid.InceptionV3([fid.InceptionV3.BLOCK_INDEX_BY_DIM[dims]])


def needed(names: list[str], dims: int) -> list[str]:
    """Those of the network's `names`, in the order of computation, up to the last layer that `dims` needs."""
    last = max(i for i, name in enumerate(names) if name.startswith(f"{LAST_LAYER[dims]}."))
    return [name for name in names[: last + 1] if not name.endswith("num_batches_tracked")]
