"""Exact search among embedded items."""
