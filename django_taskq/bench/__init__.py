"""A load test on a project's own settings, servers and workers: `manage.py taskq_bench`."""
