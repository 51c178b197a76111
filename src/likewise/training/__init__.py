"""Training: turns settings and items into a trained model in a run folder.

Public names: ``fit.fit``, ``step.train_step``, ``session.Session``.
"""
