"""The published views of SODA: torchvision's transforms on PIL images, one by one, in a DataLoader."""

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


def published_view(size: int) -> transforms.Compose:
    crop = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    return transforms.Compose(
        [
            transforms.RandomApply(crop, p=0.95),
            transforms.RandomApply([transforms.RandAugment()], p=0.65),
            transforms.ToTensor(),
        ]
    )


class Views(Dataset):
    """A view of each image; bytes (N, H, W, 3), made a PIL image at each visit as torchvision's CIFAR10 does."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.view = images, published_view(images.shape[1])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.view(Image.fromarray(self.images[i]))


def loader(images: np.ndarray, batch: int) -> DataLoader:
    return DataLoader(Views(images), batch, shuffle=True)
