"""The published probe of DDAE (Xiang et al. 2023): every epoch anew through the whole network, heads stepped one by
one.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from diffprobe.data import views
from diffprobe.data.pixels import to_float

CROP = {"pad": 4, "fill": "zero", "flip": True}
EPOCHS, BATCH = 15, 128

See = Callable[[Tensor], list[Tensor]]  # images (B, C, H, W) to the features of every tap, (B, D) each


def published_level(see: See, train: Tensor, labels: Tensor, test: Tensor, truth: Tensor, lr: float) -> list[float]:
    """The accuracy of every tap's head at one level. Images are bytes (N, H, W, C), on the device."""
    device, classes = train.device, int(labels.max()) + 1
    heads = [nn.Linear(h.shape[1], classes).to(device) for h in see(to_float(train[:2]))]
    optimisers = [torch.optim.Adam(head.parameters(), lr=lr) for head in heads]
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS) for optimiser in optimisers]
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(train), device=device).split(BATCH):
            crops = views.apply({"kind": "crop", **CROP, "draw": epoch}, train[rows], rows, 0)
            for h, head, optimiser in zip(see(to_float(crops)), heads, optimisers, strict=True):
                optimiser.zero_grad()
                nn.functional.cross_entropy(head(h), labels[rows]).backward()
                optimiser.step()
        for schedule in schedules:
            schedule.step()
    right = torch.zeros(len(heads))
    for rows in torch.arange(len(test), device=device).split(BATCH):
        for i, (h, head) in enumerate(zip(see(to_float(test[rows])), heads, strict=True)):
            right[i] += float((head(h).argmax(1) == truth[rows]).sum())
    return (right / len(test)).tolist()


class Hooks:
    """The outputs of some blocks, caught by hooks while the whole network runs."""

    def __init__(self, network: nn.Module, blocks: Sequence[nn.Module]) -> None:
        self.network, self.caught = network, dict[int, Tensor]()
        for i, block in enumerate(blocks):
            block.register_forward_hook(lambda _, __, output, i=i: self.caught.update({i: output}))

    @torch.no_grad()
    def features(self, noisy: Tensor, t: Tensor) -> list[Tensor]:
        """Every block's mean over positions, (B, C) each."""
        self.network(noisy, t)
        return [self.caught[i].mean(dim=(2, 3)) for i in sorted(self.caught)]
