"""Tests share two cores with the jobs that they start."""

import torch

torch.set_num_threads(1)
