"""How good generated images are: one pass of statistics, the Fréchet distance and its kin."""
