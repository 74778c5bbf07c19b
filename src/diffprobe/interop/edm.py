"""Weights of EDM's DDPM++ (names as in github.com/NVlabs/edm: training/networks.py, SongUNet), as a plain state dict.

EDM publishes pickles that hold code and are refused. To convert one, run their code in a sandbox of your choosing:
`torch.save(pickle.load(file)["ema"].state_dict(), "edm.pt")`.
"""

from torch import Tensor

from diffprobe.interop.names import NameMap, Place, Scheme, State, unet_map
from diffprobe.networks.unet import UNet

# Keys of our U-Net that theirs does not have as options: their values there.
NETWORK = {
    "groups": 32,
    "head_groups": 32,
    "norm_eps": 1e-6,
    "resample": "block",
    "skip_scale": 0.5**0.5,
    "time_scale": 1.0,
    "shortcut_conv": True,
    "decoder_attention": "last",
    "patch": 1,
}
LEAST_CHANNELS = 128  # below, their norms have fewer than 32 groups
BUFFER = ".resample_filter"  # constants, not weights


def unet_names(network: UNet, size: int) -> NameMap:
    """Our names to theirs, which contain the resolution of each level, for images of size x size."""
    levels = len(network.downs) + 1

    def level(part: str, stage: int) -> str:
        """The decoder's stages are counted from the lowest resolution."""
        pixels = size >> (stage if part == "encoder" else levels - 1 - stage)
        return f"{part[:3]}.{pixels}x{pixels}"

    def block(part: str, stage: int, i: int) -> Place:
        name = f"{level(part, stage)}_block{i}"
        return Place(name, name)

    def resampler(part: str, stage: int, residual: bool) -> str:
        """Named after the resolution that it leads to."""
        return f"{level(part, stage + 1)}_{'down' if part == 'encoder' else 'up'}"

    lowest = level("decoder", 0)
    scheme = Scheme(
        layers={
            "embed.0": "map_layer0",
            "embed.2": "map_layer1",
            "label": "map_label",
            "augment": "map_augment",
            "stem": f"{level('encoder', 0)}_conv",
            "head.0": f"{level('decoder', levels - 1)}_aux_norm",
            "head.2": f"{level('decoder', levels - 1)}_aux_conv",
        },
        residual={
            "norm1": "norm0",
            "conv1": "conv0",
            "emb": "affine",
            "norm2": "norm1",
            "conv2": "conv1",
            "shortcut": "skip",
        },
        attention={"norm": ("norm2",), "qkv": ("qkv",), "out": ("proj",)},
        middle=(Place(f"{lowest}_in0", f"{lowest}_in0"), Place(f"{lowest}_in1", f"{lowest}_in1")),
        block=block,
        resampler=resampler,
    )
    return unet_map(network, scheme)


def renewed(state: State) -> State:
    """A state dict without constants, its attention as linear layers in our order: all of q, then k, then v."""
    return {name: reordered(name, value) for name, value in state.items() if not name.endswith(BUFFER)}


def reordered(name: str, value: Tensor) -> Tensor:
    layer = name.split(".")[-2] if "." in name else ""
    if layer in ("qkv", "proj") and value.ndim == 4:
        value = value[:, :, 0, 0]  # a 1x1 convolution
    if layer == "qkv" and len(value) % 3 == 0:
        # Theirs has q, k and v of each channel side by side: (3 C, ..) is (C, 3, ..).
        value = value.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1)
    return value
