"""What follows from a config, without torch: paths, the graph of jobs, the argument of each."""
