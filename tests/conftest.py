"""Tests share two cores with the jobs that they start."""

import torch
from toy_latents import copy, original, pictures  # noqa: F401 (fixtures)
from toy_probing import digits_store, untrained  # noqa: F401 (fixtures)

torch.set_num_threads(1)
