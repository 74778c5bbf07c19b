"""Datasets: sources of images, splits, image and sample stores, views, and streams of shuffled rows."""
