"""What a training run can train, a file per task; `base.Task` is the seam."""
