"""Several processes that share a batch: the only callers of collectives."""
