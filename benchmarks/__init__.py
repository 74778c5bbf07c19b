"""Speed and memory of diffprobe, beside plain references written in the manner of the peers' code."""
