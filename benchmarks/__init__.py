"""Measurements of time, memory and rounding; each is a program, `python -m benchmarks.NAME`."""
