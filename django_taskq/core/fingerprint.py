"""Which failures are of one kind: an error class at a place in the application's code, or a reason without an error."""

from __future__ import annotations

import hashlib
import re

_LENGTH = 16
_HEADER = "Traceback (most recent call last):"
# Exception groups indent their frames and draw a bar beside them.
_FRAME = re.compile(r'^[ |]*File "([^"\n]+)", line \d+, in (.+)$', re.MULTILINE)
_FOREIGN = re.compile(r"(?:^|/)(?:site-packages|dist-packages|python3\.\d+|django_taskq)/|^<")


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
    last = traceback.rpartition(_HEADER)[2]  # the error that was raised, not the ones that led to it
    frames = _FRAME.findall(last.replace("\\", "/"))
    if not frames:
        return ""
    path, function = next((frame for frame in reversed(frames) if not _FOREIGN.search(frame[0])), frames[-1])
    return f"{'/'.join(path.split('/')[-2:])}:{function}"
