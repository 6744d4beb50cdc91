"""What a network does to requests and replies, and to whole machines."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from tests.chaos.catalogue import chaos, register
from tests.chaos.load import MIX
from tests.chaos.run import LIMIT, Plan, Run
from tests.servers import wait_for

TIMES = 5
BY_WORKERS = ("claim", "complete", "retry", "bury", "register", "beat", "pending", "lease", "advance", "trim", "cancel")
RECYCLING = Plan(arguments=("--threads", "4", "--max-tasks", "20"), seconds=6.0)  # workers register all the time
CANCELLING = Plan(mix={**MIX, "cancelled": 20})


def cutting(name: str, *, deliver: bool) -> Callable[[Run], None]:
    """Cuts connections around calls of one script, again and again, of whoever makes one next."""

    def act(run: Run) -> None:
        for _ in range(TIMES):
            run.pause(0.1, 0.4)
            with run.fault("cut", until_end=True):
                wait_for(run.cut(name, deliver=deliver).hit.is_set, 20, f"a call of {name}")

    return act


for name in ("enqueue", *BY_WORKERS):
    special = {"register": RECYCLING, "pending": RECYCLING, "cancel": CANCELLING}
    plan = special.get(name, Plan(seconds=5.0))
    register(
        f"reply-of-{name}-lost", f"the reply of `{name}` is lost, {TIMES} times", cutting(name, deliver=True), plan
    )
for name in ("enqueue", "claim", "complete", "advance"):
    title = f"the connection breaks before `{name}` arrives, {TIMES} times"
    register(f"{name}-cut", title, cutting(name, deliver=False), Plan(seconds=5.0))


@chaos("a slow network: 20 to 100 ms more, each way")
def slow_network(run: Run) -> None:
    for proxy in run.proxies():
        proxy.delay(0.02, 0.1)
    with run.fault("slow"):
        run.load_thread.join(120)


@chaos("every connection is reset, ten times")
def connections_reset(run: Run) -> None:
    for _ in range(10):
        run.pause(0.1, 0.3)
        with run.fault("reset"):
            for proxy in run.proxies():
                proxy.cut_all()


@chaos("every connection is half-open: it stays, and nobody answers", Plan(seconds=8.0))
def half_open(run: Run) -> None:
    run.pause(0.5, 1.5)
    with run.fault("half-open"):
        for proxy in run.proxies():
            proxy.half_open()


@chaos("a machine reaches nobody for 8 s", Plan(seconds=10.0))
def partition(run: Run) -> None:
    run.pause(0.5, 1.5)
    with run.fault("partition", until_end=True), run.some_machine().proxy.blackhole():
        run.pause(8.0)


@chaos("a machine reaches nobody for longer than the limit", Plan(seconds=20.0, calls=1500))
def partition_long(run: Run) -> None:
    run.pause(0.5, 1.5)
    machine = run.some_machine()
    # What it ran is settled by others; what it had claimed and began in the dark is found out when it is back.
    with run.fault("partition", machines={machine.number}), machine.proxy.blackhole():
        run.pause(LIMIT + 6)


@chaos("the producer reaches nobody for 5 s")
def producer_cut_off(run: Run) -> None:
    run.pause(0.5, 1.5)
    with run.fault("partition", until_end=True), run.proxy.blackhole():
        run.pause(5.0)


@chaos("nobody reaches Redis for 30 s, with tasks running", Plan(seconds=2.0, mix={**MIX, "long": 5}, calls=150))
def everybody_cut_off(run: Run) -> None:
    run.pause(1.0, 1.5)
    with run.fault("away", until_end=True), contextlib.ExitStack() as stack:
        for proxy in run.proxies():
            stack.enter_context(proxy.blackhole())
        run.pause(30.0)
