"""Weights from elsewhere and to elsewhere: name maps between our U-Net and published forms of it."""
