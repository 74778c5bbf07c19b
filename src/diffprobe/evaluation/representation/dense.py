"""Segmentation from a few labelled images (Baranchuk et al., Label-Efficient Semantic Segmentation with Diffusion
Models, ICLR 2022, arXiv 2112.03126): an ensemble of small networks classifies pixels by their features, by majority.

Each network has two hidden layers, with ReLU and then batch norm, weights and batches of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.config.evaluators.dense import Dense
from diffprobe.evaluation.representation.pixels import Pixels, Sight
from diffprobe.evaluation.representation.standardise import usable
from diffprobe.runtime import autosave
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, some_of, uniform

UNKNOWN = -1  # of a pixel of no known class
MOMENTS = 2**13  # pixels that mean and deviation are taken of
DRAWN = 128  # steps whose pixels are drawn at once
VALUES = 2**24  # numbers that pixels are classified in at once


class Networks(nn.Module):
    """E networks with layers of the same `widths`, computed side by side."""

    def __init__(self, networks: int, widths: Sequence[int], seed: int) -> None:
        super().__init__()
        members, layers = torch.arange(networks), list(pairwise(widths))

        def initial(name: str, i: int, rows: int, width: int) -> nn.Parameter:
            """As PyTorch's linear layers have them."""
            drawn = uniform(Key(seed, f"dense/{name}/{i}"), members, (rows, width))  # (E, rows, width)
            return nn.Parameter((2 * drawn - 1) * layers[i][0] ** -0.5)

        self.weights = nn.ParameterList(initial("weights", i, a, b) for i, (a, b) in enumerate(layers))
        self.biases = nn.ParameterList(initial("biases", i, 1, b) for i, (_, b) in enumerate(layers))
        self.norms = nn.ModuleList(nn.BatchNorm1d(networks * b) for _, b in layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Pixels (E, B, D), of each network its own, to logits (E, B, K)."""
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if i < len(self.norms):
                side_by_side = x.relu().movedim(0, 1)  # (B, E, width)
                x = self.norms[i](side_by_side.flatten(1)).view_as(side_by_side).movedim(1, 0)
        return x


@dataclass(frozen=True)
class Segmenter:
    """Fitted networks, and the moments by which features are standardised."""

    networks: Networks
    mean: Tensor  # (D,)
    std: Tensor  # (D,)

    @torch.inference_mode()
    def classes(self, x: Tensor) -> Tensor:
        """The class that most networks name, int64 (B,), of pixels (B, D); of several the lowest."""
        count = len(self.networks.weights[0])
        parts = x.split(max(1, VALUES // (count * x.shape[1])))
        logits = (self.networks(((part - self.mean) / self.std).expand(count, -1, -1)) for part in parts)
        return torch.cat([majority(each.argmax(-1), each.shape[-1]) for each in logits])


def majority(votes: Tensor, classes: int) -> Tensor:
    """The most frequent of E votes (E, B), the lowest of several: int64 (B,)."""
    return F.one_hot(votes, classes).sum(0).argmax(-1)


def fit(
    settings: Dense,
    pixels: Pixels,
    labels: Tensor,
    classes: int,
    seed: int,
    report: Callable[[int], object] = lambda steps: None,
) -> Segmenter:
    """Fit the networks on the pixels of known class; `labels` int64 (n, S, S), UNKNOWN for others.

    `report` is given the steps done since. Raises UserError where there are fewer than two such pixels. In a job that
    saves its computations, a killed one goes on from its last autosave.
    """
    known = (labels.flatten() != UNKNOWN).nonzero()[:, 0]  # (P,) places
    if len(known) < 2:
        raise UserError("dense: the labelled images have no two pixels of a known class; draw more `images`")
    # At random: evenly spread places may all lie at the border of their images.
    drawn = uniform(Key(seed, "dense/moments"), torch.arange(MOMENTS), ()).double()  # (P,)
    few = known if len(known) <= MOMENTS else known[(drawn * len(known)).long().to(known.device)]
    std, mean = torch.std_mean(pixels.at(few).float(), dim=0, correction=0)
    std = usable(mean, std)
    networks = Networks(settings.networks, (len(mean), *settings.hidden, classes), seed).to(labels.device)
    adam = torch.optim.Adam(networks.parameters(), lr=settings.lr, fused=True)
    saved = autosave.own()
    first = resumed(saved.read() if saved else {}, networks, adam)
    report(first)
    for step in range(first, settings.steps):
        if step in (first, step // DRAWN * DRAWN):
            drawn = batches(settings, seed, step // DRAWN * DRAWN, len(known)).to(labels.device)
        places = known[drawn[:, step % DRAWN]]  # (E, B)
        logits = networks((pixels.at(places).float() - mean) / std)  # (E, B, K)
        # The sum over networks, none of which has a part in another's gradient.
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten()[places].flatten(), reduction="sum")
        adam.zero_grad()
        (loss / settings.batch).backward()
        adam.step()
        report(1)
        if saved:
            saved.offer(partial(kept, networks, adam, step + 1))
    if saved:
        saved.finish(partial(kept, networks, adam, settings.steps))
    return Segmenter(networks.eval().requires_grad_(False), mean, std)


def kept(networks: Networks, adam: torch.optim.Adam, steps: int) -> dict[str, Tensor]:
    """What is saved after so many steps."""
    moments = adam.state_dict()["state"]
    named = {f"adam.{i}.{name}": x for i, each in moments.items() for name, x in each.items()}
    return {"steps": torch.tensor(steps)} | {f"networks.{name}": x for name, x in networks.state_dict().items()} | named


def resumed(before: Mapping[str, Tensor], networks: Networks, adam: torch.optim.Adam) -> int:
    """Put what was saved in its place; returns the number of steps in it, 0 of nothing."""
    if not before:
        return 0
    networks.load_state_dict({name: before[f"networks.{name}"] for name in networks.state_dict()})
    moments: dict[int, dict[str, Tensor]] = {}
    for key, x in before.items():
        if key.startswith("adam."):
            _, number, name = key.split(".")
            moments.setdefault(int(number), {})[name] = x
    adam.load_state_dict({"state": moments, "param_groups": adam.state_dict()["param_groups"]})
    return int(before["steps"])


def batches(settings: Dense, seed: int, step: int, pixels: int) -> Tensor:
    """The pixels of DRAWN steps from `step` on, of each network its own: int64 (E, DRAWN, B) below `pixels`."""
    drawn = uniform(Key(seed, f"dense/pixels/{step}"), torch.arange(settings.networks), (DRAWN, settings.batch))
    return (drawn.double() * pixels).long()


def labelled(rows: int, images: int, repeat: int) -> Tensor:
    """Places int64 (images,), rising, of the labelled images of a repeat, in a split of `rows`. Raises UserError where
    there are fewer.
    """
    if images > rows:
        raise UserError(
            f"dense: {images} labelled images asked for, but train has {rows}; set `images` to at most that"
        )
    return some_of(Key(repeat, "few masks"), rows, images)


def few_pixels(sight: Sight, places: Tensor, augmented: int, memory: float) -> Pixels:
    """The pixels of images of train at `places`, one after another: of all as they are, then of each augmented copy.

    `memory` bounds the bytes of their maps: raises UserError for more.
    """
    images = [(copy, place) for copy in range(augmented + 1) for place in places.tolist()]
    held: list[list[Tensor]] = []
    for copy, place in images:
        held.append(sight.maps("train", slice(place, place + 1), copy, augmented=copy > 0))
        size = sum(each.nbytes for each in held[0]) * len(images)
        if size > memory:
            allowed = f"fewer `images`, copies or cells, or more memory_gib than {memory / 2**30:g}"
            raise UserError(f"dense: maps of {len(images)} labelled images take {size / 2**30:.1f} GiB; set {allowed}")
    return sight.pixels([torch.cat(each) for each in zip(*held, strict=True)])


def score(segmenters: Sequence[Segmenter], pixels: Pixels, truth: Tensor, classes: int) -> Tensor:
    """Confusion counts int64 (R, K, K) of R segmenters on masks int64 (n, S, S); rows are true classes."""
    counts = torch.zeros(len(segmenters), classes, classes, dtype=torch.int64, device=truth.device)
    flat, at_once = truth.flatten(), max(1, VALUES // len(segmenters[0].mean))
    for places in torch.arange(len(flat), device=truth.device).split(at_once):
        x = pixels.at(places).float()  # (P, D), the same for all
        for repeat, segmenter in enumerate(segmenters):
            counts[repeat] += confusion(flat[places], segmenter.classes(x), classes)
    return counts


def confusion(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Counts int64 (K, K), rows are true classes, over pixels of known class."""
    known = truth != UNKNOWN
    pairs = truth[known] * classes + predicted[known]
    return pairs.bincount(minlength=classes**2).view(classes, classes)


def intersection_over_union(counts: Tensor) -> Tensor:
    """Of each class, float64 (..., K): its pixels that are found, over those that are it or are said to be; NaN for a
    class without pixels in the truth. counts (..., K, K), rows are true classes.
    """
    hit, true, said = counts.diagonal(dim1=-2, dim2=-1), counts.sum(-1), counts.sum(-2)
    return torch.where(true > 0, hit.double() / (true + said - hit), torch.nan)
