"""Experiments on the package's parts, run by ``tests/benchmarks/run.py``; not part of the wheel."""
