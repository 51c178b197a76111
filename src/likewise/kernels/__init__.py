"""Fast numerics of the objectives: reductions of rows of similarities, tile by tile, with their gradients.

Public names: ``row_losses.row_losses``, ``class_losses.class_losses``, ``logsumexp.row_logsumexp``,
``numerics.gathered_similarities``.
"""
