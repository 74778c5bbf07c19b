"""What people look at: image grids, plots, tables, the status of a run. Nothing here imports torch."""
