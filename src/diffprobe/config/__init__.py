"""Typed config: the only source of truth about what may be asked for. Nothing here imports torch."""
