"""Datasets, the HDF5 image store, splits."""
