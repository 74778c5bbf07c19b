"""The latent store (zarr): encoding into it part by part, checking it, reading it, streaming it into training."""
