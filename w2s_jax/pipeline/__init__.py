"""Weak-to-strong reasoning from two models and unlabeled questions to a table of results."""
