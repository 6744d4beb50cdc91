"""`task_finished` for ends that no attempt brings about: a lost worker, a hard time limit, cancelled while it waited.

An attempt announces its own end where it runs. What ends otherwise is announced by whoever settles it.
"""

from __future__ import annotations

from typing import Any

from django_taskq.backend import lookup, results
from django_taskq.backend.adapted import AdaptedTask
from django_taskq.backend.attempt import told
from django_taskq.signals import task_cancelled, task_failed


def _tell(sender: Any, task_id: str, **_: Any) -> None:
    if not isinstance(sender, AdaptedTask):
        return
    if task_id in told:
        told.discard(task_id)
        return
    known = lookup.known(task_id)
    if known is None:
        return
    alias = known.origin.alias or sender.alias
    result = results.result_of(sender.framework, sender, known, alias)
    if result.is_finished:
        sender.framework.task_finished.send_robust(lookup.sender_of(sender, alias), task_result=result)


task_failed.connect(_tell, dispatch_uid="django_taskq.backend.failed")
task_cancelled.connect(_tell, dispatch_uid="django_taskq.backend.cancelled")
