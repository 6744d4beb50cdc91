"""Prometheus metrics. `register()` adds those of this process to prometheus_client's default registry.

With `django_prometheus` in INSTALLED_APPS that happens by itself. Needs the extra `metrics`; whoever does not install
or register pays nothing. Workers serve their own: `taskq_worker --metrics-port`.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from django_taskq import producer

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

# By registry; it survives a reload of this module, as what is registered does.
_registered: weakref.WeakSet[Any] = globals().get("_registered", weakref.WeakSet())


def register(registry: CollectorRegistry | None = None) -> None:
    """Adds the queue's gauges and this process' counters to a registry, by default the default one; once is enough."""
    from prometheus_client import REGISTRY

    from django_taskq.metrics.cluster import Cluster
    from django_taskq.metrics.sent import Sent

    chosen = REGISTRY if registry is None else registry
    if chosen in _registered:
        return
    sent = Sent()
    chosen.register(Cluster())
    chosen.register(sent)
    _registered.add(chosen)
    producer.set_counter(sent.count)
