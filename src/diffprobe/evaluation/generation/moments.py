"""Mean and covariance of features that arrive in batches, in one pass and float64."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from diffprobe.runtime.errors import UserError


class Moments:
    """The first two moments of all rows so far, the same for any batch size and any order of merging.

    Batches are joined by the pairwise update of Chan, Golub and LeVeque (1983, eq. 2.1). No raw sum of squares is kept,
    so a mean far from zero costs no digits. The sums live on the device of the features.
    """

    def __init__(self, dim: int) -> None:
        self.n = 0
        self.dim = dim
        self._mean = torch.zeros(dim, dtype=torch.float64)  # (D,)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)  # (D, D), sum of (x - mean)(x - mean)^T

    @torch.no_grad()
    def update(self, features: Tensor) -> None:
        """Add a batch: features (B, D), any floating type, any device; B may be 0."""
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise ValueError(f"features of shape {tuple(features.shape)}, expected (B, {self.dim})")
        rows = features.to(torch.float64)  # (B, D)
        mean = rows.sum(0) / max(len(rows), 1)  # (D,)
        centred = rows - mean  # before the product: squares of uncentred rows would cancel later
        self._join(len(rows), mean, centred.T @ centred)

    def _join(self, n: int, mean: Tensor, scatter: Tensor) -> None:
        """S = S1 + S2 + (n1 n2 / n) d d^T and mean = mean1 + (n2 / n) d, with d = mean2 - mean1 (eq. 2.1)."""
        if n == 0:
            return
        if self.n == 0:  # a copy, so that a restored state equals the saved one bit for bit
            self.n, self._mean, self._scatter = n, mean.clone(), scatter.clone()
            return
        total = self.n + n
        self._mean, self._scatter = self._mean.to(mean.device), self._scatter.to(mean.device)
        delta = mean - self._mean  # (D,)
        self._scatter.add_(scatter).addr_(delta, delta, alpha=self.n * n / total)  # rank-1 update in place
        self._mean.add_(delta, alpha=n / total)
        self.n = total

    def state(self) -> dict[str, Tensor]:
        """As tensors on the CPU, for a file or another process."""
        return {"n": torch.tensor(self.n), "mean": self._mean.cpu(), "scatter": self._scatter.cpu()}

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Add the rows of others, by their state."""
        self._join(int(state["n"]), state["mean"].to(self._mean.device), state["scatter"].to(self._mean.device))

    @property
    def mu(self) -> np.ndarray:
        """The mean, float64 (D,). UserError below two rows."""
        self._require_rows()
        return self._mean.cpu().numpy().copy()

    @property
    def sigma(self) -> np.ndarray:
        """The unbiased covariance, float64 (D, D), as np.cov gives it. UserError below two rows."""
        self._require_rows()
        return (self._scatter / (self.n - 1)).cpu().numpy()

    def _require_rows(self) -> None:
        if self.n < 2:
            raise UserError(f"a covariance needs at least 2 images, here are {self.n}: ask for more images")
