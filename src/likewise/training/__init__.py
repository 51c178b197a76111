"""From settings and items to a trained model in a run folder.

Public names: ``fit.fit``, ``step.train_step``, ``session.Session``.
"""
