"""The plan of a rate limit (broker/lua/lib/rate.lua) against the same in Python, on a clock that the test winds.

Messages are met in any order and as late as it pleases Hypothesis, and workers start them as late as that after they
were handed over. Whatever happens, no window has a start too many.
"""

from __future__ import annotations

import bisect
import os
from dataclasses import dataclass, field
from importlib import resources

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_taskq.broker import Broker, scripts
from django_taskq.core.gates import rate_gate
from django_taskq.rates import Rate, lateness

EXAMPLES = int(os.environ.get("TASKQ_TEST_EXAMPLES", "0"))
LIB = resources.files("django_taskq.broker") / "lua" / "lib"
START = 1_700_000_000_000_000  # us

SOURCE = (
    "local NS = '{model}:'\nlocal function number(value) return string.format('%.0f', value) end\n"
    + "".join((LIB / f"{name}.lua").read_text() for name in ("fields", "declared", "gcra", "rate"))
    + """
local fields = ARGV[6] ~= '' and {'c', ARGV[6]} or {}
local gate = {'r', ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])}
local due = wait_for_slots({gate}, fields, tonumber(ARGV[5]))
return {due and number(due) or '', value_of(fields, 'c') or ''}
"""
)


@dataclass
class Plan:
    """What lib/rate.lua does, in Python: slots are moments of the plan, and the plan moves by `shift`."""

    interval: int
    lead: int
    tolerance: int
    next: int | None = None
    shift: int = 0
    last: int | None = None
    starts: list[int] = field(default_factory=list)

    def meet(self, slot: int | None, now: int) -> tuple[int | None, int]:
        """When it may start (None: now), and its slot: the one it keeps, or the one it has used."""
        virtual, shift = now - self.shift, self.shift
        if self.next is None or slot is None:
            known = self.next or 0
            slot, self.next = max(virtual, known - self.lead), max(virtual, known) + self.interval
            self.last = slot - self.interval if self.last is None else self.last
        last = slot - self.interval if self.last is None else self.last
        due, late, used = slot + shift, virtual - slot, slot
        if slot < last + self.interval - self.lead or (late > self.tolerance and slot < last):
            due = last + self.interval + shift
            shift, used = max(due, now - self.tolerance) - last, last
        elif late > self.tolerance:
            shift += late - self.tolerance
        if due > now:
            return due, slot
        self.shift, self.last = shift, max(last, slot)
        return None, used

    def start(self, slot: int, now: int) -> None:
        """What late.lua does."""
        allowed, most = lateness(self.tolerance)
        late = now - self.shift - slot - allowed
        if self.last is not None and late > 0:
            self.shift += min(late, most)

    def forget(self) -> None:
        """Somebody deletes its key."""
        self.next, self.shift, self.last = None, 0, None


def most_within(moments: list[int], span: int) -> int:
    return max((bisect.bisect_left(moments, start + span) - at for at, start in enumerate(moments)), default=0)


delays = st.sampled_from([0, 0, 1, 3, 20, 90])
rates = st.builds(Rate, st.integers(1, 20), st.sampled_from([0.5, 1.0, 10.0, 60.0]))
# Which of the messages that are due is met, and how long after the last one, in hundredths of the rate's span.
# And how much later it starts, once it is handed over.
meetings = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40), delays), min_size=5, max_size=80)
forgotten = st.sets(st.integers(0, 80), max_size=2)  # before which of these meetings the plan's key is deleted


@settings(
    max_examples=EXAMPLES or 40, derandomize=not EXAMPLES, database=None, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(
    rate=rates, burst=st.sampled_from([1, 1, 1, 3]), count=st.integers(1, 30), meetings=meetings, forgotten=forgotten
)
def check(
    broker: Broker, rate: Rate, burst: int, count: int, meetings: list[tuple[int, int, int]], forgotten: set[int]
) -> None:
    run = broker.connections.execute
    run("DEL", "{model}:rate:m")
    _, name, interval, lead, tolerance = rate_gate("m", rate, burst)
    plan, now, span = Plan(interval, lead, tolerance), START, int(rate.seconds * 1e6)
    waiting: list[tuple[int, int | None]] = [(START, None)] * count  # when it is due, its slot
    sha = run("SCRIPT", "LOAD", SOURCE)

    begun: list[tuple[int, int]] = []  # when what was handed over starts, its slot

    def start(until: float) -> None:
        for moment, slot in sorted(begun):
            if moment <= until:
                begun.remove((moment, slot))
                told = (1, "{model}:index", name, slot, moment, *lateness(tolerance))
                broker.connections.run(scripts.LATE, told)
                plan.start(slot, moment)
                plan.starts.append(moment)

    def meet(position: int, delay: int) -> None:
        start(now)
        _, slot = waiting.pop(position)
        words = (name, interval, lead, tolerance, now, "" if slot is None else slot)
        due, text = run("EVALSHA", sha, 0, *words)
        expected, slot_now = plan.meet(slot, now)
        assert (int(due) if due else None) == expected
        if expected is None:
            used, handed = map(int, text.split())
            assert (used, handed) == (slot_now, now)
            begun.append((now + delay * span // 100, used))
        else:
            assert tuple(map(int, text.split())) == (slot_now, interval)
            assert slot in (None, slot_now)  # whoever has a slot is never sent to the end of the line
            waiting.append((expected, slot_now))

    for number, (pick, later, delay) in enumerate(meetings):
        now += later * span // 100
        if number in forgotten:
            start(now)
            run("DEL", "{model}:rate:m")
            plan.forget()
        ready = [position for position, (due, _) in enumerate(waiting) if due <= now]
        if ready:
            meet(ready[pick % len(ready)], delay)
    looked = 0
    while waiting:  # in time from here on
        now = max(now, min(due for due, _ in waiting))
        meet(min(range(len(waiting)), key=lambda position: waiting[position]), 0)
        looked += 1
        assert looked <= 40 * count
    start(float("inf"))
    assert len(plan.starts) == count
    assert most_within(plan.starts, span) <= (rate.count + burst - 1) * (1 + len(forgotten))


def test_the_plan_is_kept_whatever_happens(broker: Broker) -> None:
    check(broker)
