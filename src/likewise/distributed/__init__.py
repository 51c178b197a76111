"""Several processes share every batch; only the modules here exchange anything between them.

Public names: ``processes.gather_rows``, ``layout.Layout``, ``shard_files.save_sharded``, ``shard_files.load_sharded``.
"""
