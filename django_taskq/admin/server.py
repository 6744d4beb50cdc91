"""What the overview says of Redis itself."""

from __future__ import annotations

import time

from django.utils.translation import gettext as _

from django_taskq.admin.figures import brief, count, share, size
from django_taskq.admin.look import Look


def server_facts(look: Look) -> list[tuple[str, str]]:
    """Names and values; nothing where Redis does not tell."""
    health = look.health
    lag = (_("Outcomes on their way to the database"), count(look.lag))
    if health is None:
        return [lag] if look.at else []
    kept = [_("append-only file")] * health.append_only + [_("snapshots")] * health.snapshots
    memory = size(health.memory)
    if health.maxmemory:
        memory = _("%(used)s of %(all)s (%(share)s)") % {
            "used": memory, "all": size(health.maxmemory), "share": share(health.memory / health.maxmemory)
        }  # fmt: skip
    return [
        (_("Server"), f"{health.server.capitalize()} {health.version}"),
        (_("Up for"), brief(max(0.0, time.time() - health.started))),
        (_("Memory"), memory),
        (_("When memory is full"), health.policy),
        (_("Kept on disk"), ", ".join(kept) or _("nothing")),
        (_("Evicted keys"), count(health.evicted)),
        (_("Clients"), count(health.clients)),
        lag,
    ]
