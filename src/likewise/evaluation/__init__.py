"""What a trained model is measured with: baselines, classifiers, retrieval, and their scores."""
