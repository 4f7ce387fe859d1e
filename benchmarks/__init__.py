"""Benchmarks of speed, RAM and disk: ratios within one run, medians of several. Tests never assert on time."""
