"""Distributed training: the processes divide every batch, and only the modules here communicate between processes.

Public names: ``processes.gather_rows``, ``layout.Layout``, ``shard_files.save_sharded``, ``shard_files.load_sharded``.
"""
