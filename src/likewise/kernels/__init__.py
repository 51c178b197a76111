"""Row reductions of similarities in tiles: what the objectives are fast with."""
