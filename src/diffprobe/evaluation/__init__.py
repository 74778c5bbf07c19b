"""What generated images and learned features are worth: distances, extractors, probe heads, neighbours."""
