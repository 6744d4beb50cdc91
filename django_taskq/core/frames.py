"""A formatted traceback, taken apart: which of its frames are the application's own."""

from __future__ import annotations

import re
from typing import NamedTuple

_HEADER = "Traceback (most recent call last):"
# Exception groups indent their frames and draw a bar beside them.
_FRAME = re.compile(r'^[ |]*File "([^"\n]+)", line (\d+), in (.+)$', re.MULTILINE)
_FOREIGN = re.compile(r"(?:^|/)(?:site-packages|dist-packages|python3\.\d+|django_taskq)/|^<")
_MARKERS = re.compile(r"^[\s|^~]+$")


class Frame(NamedTuple):
    """One call on the way to the error."""

    path: str
    line: int
    function: str
    code: str

    @property
    def is_own(self) -> bool:
        """Whether it is in the application's code: not a library, not Python, not this package."""
        return not _FOREIGN.search(self.path.replace("\\", "/"))


def frames_of(traceback: str) -> list[Frame]:
    """The frames of the error that was raised, not of those that led to it; outermost first."""
    last = traceback.rpartition(_HEADER)[2]
    matches = list(_FRAME.finditer(last))
    ends = [*(match.start() for match in matches[1:]), len(last)]
    return [
        Frame(match[1], int(match[2]), match[3], _code(last[match.end() : end]))
        for match, end in zip(matches, ends, strict=False)
    ]


def _code(block: str) -> str:
    """The line of source below a frame: the first that is indented deeper than the frame and is more than marks."""
    for line in block.split("\n")[1:]:
        text = line.lstrip(" |")
        if not line.startswith(("    ", "  |")) or not text:
            return ""
        if not _MARKERS.match(line):
            return text
    return ""
