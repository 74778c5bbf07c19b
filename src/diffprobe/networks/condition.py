"""What a network is conditioned on, besides the noisy image and its noise level."""

from typing import NamedTuple

from torch import Tensor


class Condition(NamedTuple):
    """Each part is optional; a network ignores those that it has no input for."""

    label: Tensor | None = None  # int64 (B,), -1 for no label
    augment: Tensor | None = None  # float (B, A): the augmentation label, zeros for an image as it is
    z: Tensor | None = None  # float (B, D): a latent code, such as an encoder's of another view of the image
    z_mask: Tensor | None = None  # bool (B, K): which of the K parts of the network see z; None: all
    source: Tensor | None = None  # float (B, C, H, W): clean images in [-1, 1], to make z of where that is None
    zeroed: tuple[str, ...] = ()  # embeddings, `time` or `label`, in whose place there are zeros


NOTHING = Condition()
