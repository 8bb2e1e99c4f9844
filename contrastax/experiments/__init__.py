"""Runs experiments that a config describes, and evaluates their runs."""
