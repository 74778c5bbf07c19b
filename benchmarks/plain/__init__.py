"""The plain references: eager PyTorch in NCHW, a DataLoader, unfused optimisers, an average per parameter, `.item()`
in every step. Written from the papers for this comparison; parameters have our names, so that weights can be shared.
"""
