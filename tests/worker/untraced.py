"""Imported by workers that get stuck: from here on nothing measures what they run.

CPython 3.11 hangs when a thread that is being traced enters a function while an exception waits for another thread that
is stuck in C: its evaluation loop starts over as long as anything is pending. Only tracers (of coverage, of debuggers)
meet that.
"""

from __future__ import annotations

import coverage

if (tracer := coverage.Coverage.current()) is not None:
    tracer.stop()
