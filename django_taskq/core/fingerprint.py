"""Which failures are of one kind: an error class at a place in the application's code, or a reason without an error."""

from __future__ import annotations

import hashlib

from django_taskq.core.frames import frames_of

_LENGTH = 16


def fingerprint(task: str, reason: str, error_class: str, traceback: str) -> str:
    """16 hexadecimal digits that stay the same between processes, machines and deployments.

    An error counts by its class and the function that raised it, without the line number, which every edit of the file
    moves; whatever has no traceback (a lost worker, wrong arguments) counts by its reason and the task.
    """
    place = place_of(traceback)
    parts = (error_class, place) if error_class and place else (reason, error_class, task)
    return hashlib.sha1("\n".join(parts).encode("utf-8", "replace"), usedforsecurity=False).hexdigest()[:_LENGTH]


def place_of(traceback: str) -> str:
    """`directory/file.py:function` of the innermost frame in the application's own code, or of the innermost of all.

    Only the last directory counts: those above it differ between releases and machines. Empty without any frame.
    """
    frames = frames_of(traceback)
    if not frames:
        return ""
    chosen = next((frame for frame in reversed(frames) if frame.is_own), frames[-1])
    path = chosen.path.replace("\\", "/")
    return f"{'/'.join(path.split('/')[-2:])}:{chosen.function}"
