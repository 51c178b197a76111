"""likewise learns what is alike."""

__version__ = "0.1.0"
