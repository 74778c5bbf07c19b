"""What a model has learned: features of its taps, and the heads that are fitted on them."""
