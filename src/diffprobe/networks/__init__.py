"""Networks: `forward(x, c_noise, cond, taps, features_only)` to an output and named activations."""
