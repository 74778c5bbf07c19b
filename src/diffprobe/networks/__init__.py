"""Networks: `forward(x, c_noise, taps, features_only)` to an output and named activations."""
