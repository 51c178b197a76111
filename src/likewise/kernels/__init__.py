"""The fast numerics of the objectives: row reductions of similarities in tiles, with their gradients.

Public names: ``row_losses.row_losses``, ``logsumexp.row_logsumexp``, ``numerics.gathered_similarities``.
"""
