"""The JSON API: one table of routes (routes.py), served by django_taskq.urls and described by its openapi.json."""
