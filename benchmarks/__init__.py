"""Measures django_taskq beside the floor: `make bench`, or `python -m benchmarks --help`. See docs/performance.md."""
