"""The rows of `make bench`: a file each, whose ROW names its sides, its check and what it must reach."""
