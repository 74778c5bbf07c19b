"""The Inception-v3 of the FID, as pytorch-fid ports it: features, sFID's map, the Inception score's logits."""

from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.config.extractors.inception import InceptionExtractor
from diffprobe.evaluation.generation.extractors.base import FeatureExtractor, Features, channels_first, exact, to_rgb
from diffprobe.evaluation.generation.extractors.weights import checked, downloaded, read
from diffprobe.runtime.files import sha256

# In the order of computation; pytorch-fid's four feature widths are the outputs of the layers in LAST.
LAYERS = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2",
          "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e",
          "Mixed_7a", "Mixed_7b", "Mixed_7c")  # fmt: skip
LAST = {64: "maxpool1", 192: "maxpool2", 768: "Mixed_6e", 2048: "Mixed_7c"}
WHAT = "Inception weights"
HEAD = "fc.weight"
CLASSES = 1008
MAP = (7, 17, 17)  # sFID: the first 7 channels of Mixed_6d, TensorFlow's mixed_6/conv (Nash et al. 2021, ADM's choice)
SIDE = 299
RESIZE = "pytorch-fid: bilinear to 299x299, half-pixel centres, no antialiasing"


def make(settings: InceptionExtractor, weights: Path | None, device: torch.device) -> FeatureExtractor:
    """The FID's Inception-v3 up to the layer with `dims` features, averaged over positions.

    Images of any size are resized as by pytorch-fid; grey ones are repeated to three channels. From 768 dims on there
    is sFID's map (2,023 values in TensorFlow's order); at 2048 there are logits, if the file holds fc.weight.

    The weights are a .safetensors or .pth file with pytorch-fid's key names; without one, its public download. The file
    may leave out layers that `dims` does not need, and its batch norms may be folded into the convolutions if they are
    left there as neutral ones (weight 1, mean 0, variance 1 - eps) with the bias. UserError if it cannot be read, or
    lacks a layer.
    """
    dims, file = settings.dims, weights or settings.weights
    path = Path(file) if file else public_weights()
    state = read(path, WHAT)
    network = load_network(state, dims, path).to(device).to(memory_format=torch.channels_last)
    head = head_of(state, path).to(device) if dims == 2048 and HEAD in state else None  # (K, 2048)

    @exact
    def apply(images: Tensor) -> Features:
        x = F.interpolate(to_rgb(channels_first(images, device) / 255, "Inception"), (SIDE, SIDE), mode="bilinear")
        x, spatial = 2 * x - 1, None
        for name, layer in network.named_children():
            x = layer(x)  # (B, D, H', W')
            if name == "Mixed_6d":
                spatial = x[:, : MAP[0]].permute(0, 2, 3, 1).flatten(1)  # (B, 17 * 17 * 7)
        pooled = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (B, D)
        # The published scores leave out the bias of the last layer, as do ADM's evaluator and torch-fidelity.
        return Features(pooled, spatial, None if head is None else pooled @ head.T)

    spatial = MAP[0] * MAP[1] * MAP[2] if dims >= 768 else 0
    classes = 0 if head is None else len(head)
    return FeatureExtractor(settings.printed_name, dims, sha256(path), RESIZE, apply, spatial, classes)


def head_of(state: dict[str, Tensor], path: Path) -> Tensor:
    """The last layer's weights, float32 (K, 2048). Raises UserError where they have another shape."""
    shape = torch.Size([*state[HEAD].shape[:1], 2048])
    return checked(state, HEAD, shape, f"{WHAT} {path}", "download them again")


def public_weights() -> Path:
    """pytorch-fid's public weights, downloaded now unless they are cached."""
    from pytorch_fid.inception import FID_WEIGHTS_URL

    # The file's name ends in the first digits of its hash.
    return downloaded(FID_WEIGHTS_URL, WHAT, Path(FID_WEIGHTS_URL).stem.rsplit("-", 1)[1])


def load_network(state: dict[str, Tensor], dims: int, path: Path) -> nn.Sequential:
    """The layers up to the one that `dims` needs, by name, filled from `state`; `path` is for errors."""
    import torchvision
    from pytorch_fid import inception as fid

    with torch.device("meta"):  # nothing to initialise: every tensor is replaced
        whole = torchvision.models.inception_v3(num_classes=CLASSES, aux_logits=False, weights=None, init_weights=False)
        # Blocks that pool as TensorFlow's graph does; pytorch-fid's own constructor would download weights.
        whole.Mixed_5b = fid.FIDInceptionA(192, pool_features=32)
        whole.Mixed_5c = fid.FIDInceptionA(256, pool_features=64)
        whole.Mixed_5d = fid.FIDInceptionA(288, pool_features=64)
        whole.Mixed_6b = fid.FIDInceptionC(768, channels_7x7=128)
        whole.Mixed_6c = fid.FIDInceptionC(768, channels_7x7=160)
        whole.Mixed_6d = fid.FIDInceptionC(768, channels_7x7=160)
        whole.Mixed_6e = fid.FIDInceptionC(768, channels_7x7=192)
        whole.Mixed_7b = fid.FIDInceptionE_1(1280)
        whole.Mixed_7c = fid.FIDInceptionE_2(2048)
    layers = LAYERS[: LAYERS.index(LAST[dims]) + 1]
    network = nn.Sequential(OrderedDict((name, getattr(whole, name)) for name in layers))
    what, remedy = f"{WHAT} {path} for dims {dims}", "choose smaller dims or a complete file"
    tensors = {
        # Of batches seen in training, files without the count are complete too.
        name: torch.tensor(0)
        if name.endswith("num_batches_tracked")
        else checked(state, name, value.shape, what, remedy).float()
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)
