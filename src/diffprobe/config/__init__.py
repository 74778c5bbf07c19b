"""The typed config: the only source of truth on what a user may write. Nothing here imports torch."""
