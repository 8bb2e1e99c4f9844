"""Experiments: runs and evaluations that a config file describes."""
