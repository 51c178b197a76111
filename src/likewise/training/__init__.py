"""From settings and items to a trained model in a run folder."""
