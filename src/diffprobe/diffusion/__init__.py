"""Noise levels, processes (what a network learns) and samplers (how images are drawn from it)."""
