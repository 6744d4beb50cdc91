"""The floor: the least that a queue on Redis Streams can do and still deliver at least once. Figures are divided by it.

    python -m benchmarks.floor PORT send TASKS                       bulk and single sending, memory
    python -m benchmarks.floor PORT drain TASKS PROCESSES THREADS    no-op tasks
    python -m benchmarks.floor PORT latency SAMPLES                  from sending to the first line, on an idle worker

One stream with one group, a hash from id to entry, MessagePack, a pool of threads, and a settling thread whose script
asks who holds an entry before it acknowledges and deletes it, forgets the id and hands over the outcome. There are no
retries, schedules, priorities, limits, hooks, types, logs or database: all that a task queue is for comes on top.
Prints one line of JSON. Uses `{floor}:*` in database 0 of the server on 127.0.0.1.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import msgspec
import redis

from benchmarks.payload import EMAIL

TASKS, PLACES, ENDS = KEYS = ("{floor}:tasks", "{floor}:places", "{floor}:ends")
GROUP = "floor"
BATCH = 500  # messages a script
AHEAD = 256  # messages a worker fetches at once, and may have waiting before it fetches more

# ARGV: pairs of id and message.
SEND = """
local tasks, places, at = KEYS[1], KEYS[2], 1
while ARGV[at] do
  local id = ARGV[at]
  if redis.call('HEXISTS', places, id) == 0 then
    redis.call('HSET', places, id, redis.call('XADD', tasks, '*', 'id', id, 'msg', ARGV[at + 1]))
  end
  at = at + 2
end
"""

# ARGV: consumer, then triples of entry, id and outcome.
SETTLE = """
local tasks, places, ends, me, at = KEYS[1], KEYS[2], KEYS[3], ARGV[1], 2
while ARGV[at] do
  local entry = ARGV[at]
  local held = redis.call('XPENDING', tasks, 'floor', entry, entry, 1)[1]
  if held and held[2] == me then
    redis.call('XACK', tasks, 'floor', entry)
    redis.call('XDEL', tasks, entry)
    redis.call('HDEL', places, ARGV[at + 1])
    redis.call('XADD', ends, '*', 'out', ARGV[at + 2])
  end
  at = at + 3
end
"""


class Message(msgspec.Struct, array_like=True):
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    attempt: int = 0


class Outcome(msgspec.Struct, array_like=True):
    id: bytes
    task: str
    succeeded: bool
    started: float
    took: float
    worker: str
    result: Any = None


pack = msgspec.msgpack.Encoder().encode
unpack_message = msgspec.msgpack.Decoder(Message).decode
unpack_outcome = msgspec.msgpack.Decoder(Outcome).decode
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "email": lambda **_: None,
    "first_line": lambda **_: time.monotonic(),
}


def connect(port: int) -> Any:
    """A client. Its types would allow for every protocol there is, so it goes without."""
    return redis.Redis(port=port, protocol=2)


class Worker:
    """One process: this thread claims, `threads` execute, one settles. Ends half a second after the last message."""

    def __init__(self, name: str, port: int, threads: int) -> None:
        self.name, self.port, self.threads = name, port, threads
        self.claimed: SimpleQueue[tuple[bytes, dict[bytes, bytes]] | None] = SimpleQueue()
        self.ended: deque[tuple[bytes, bytes, bytes]] = deque()
        self.bell = threading.Event()
        self.over = False

    def run(self) -> None:
        executing = [threading.Thread(target=self.execute) for _ in range(self.threads)]
        settling = threading.Thread(target=self.settle)
        for thread in (*executing, settling):
            thread.start()
        self.claim()
        for _ in executing:
            self.claimed.put(None)
        for thread in executing:
            thread.join()
        self.over = True
        self.bell.set()
        settling.join()

    def claim(self) -> None:
        client = connect(self.port)
        while True:
            if self.claimed.qsize() > AHEAD:
                time.sleep(0.001)
            elif reply := client.xreadgroup(GROUP, self.name, {TASKS: ">"}, count=AHEAD, block=500):
                for entry in reply[0][1]:
                    self.claimed.put(entry)
            else:
                return

    def execute(self) -> None:
        while claimed := self.claimed.get():
            entry, fields = claimed
            message = unpack_message(fields[b"msg"])
            started, clock = time.time(), time.perf_counter()
            try:
                succeeded, result = True, FUNCTIONS[message.task](*message.args, **message.kwargs)
            except Exception as error:  # noqa: BLE001 - a task may raise anything
                succeeded, result = False, repr(error)
            took = time.perf_counter() - clock
            outcome = Outcome(fields[b"id"], message.task, succeeded, started, took, self.name, result)
            self.ended.append((entry, fields[b"id"], pack(outcome)))
            self.bell.set()

    def settle(self) -> None:
        script = connect(self.port).register_script(SETTLE)
        while self.ended or not self.over:
            self.bell.wait(0.2)
            self.bell.clear()
            while self.ended:
                arguments: list[str | bytes] = [self.name]
                for _ in range(min(BATCH, len(self.ended))):
                    arguments += self.ended.popleft()
                script(KEYS, arguments)


def start_workers(port: int, processes: int, threads: int) -> list[multiprocessing.Process]:
    connect(port).xgroup_create(TASKS, GROUP, id="0", mkstream=True)
    started = [
        multiprocessing.Process(target=Worker(f"worker-{number}", port, threads).run) for number in range(processes)
    ]
    for process in started:
        process.start()
    return started


def message(task: str) -> tuple[bytes, bytes]:
    return uuid.uuid4().bytes, pack(Message(task, [], EMAIL))


def fill(client: Any, tasks: int) -> None:
    send = client.register_script(SEND)
    for first in range(0, tasks, BATCH):
        send(KEYS, [part for _ in range(min(BATCH, tasks - first)) for part in message("email")])


def send(port: int, tasks: int) -> dict[str, float]:
    """Messages a second in bulk and one by one, and bytes a queued message."""
    client = connect(port)
    before, clock = client.info("memory")["used_memory"], time.perf_counter()
    fill(client, tasks)
    bulk = tasks / (time.perf_counter() - clock)
    memory = (client.info("memory")["used_memory"] - before) / tasks
    one, singles, clock = client.register_script(SEND), max(1, tasks // 10), time.perf_counter()
    for _ in range(singles):
        one(KEYS, message("email"))
    return {"bulk": bulk, "bytes": memory, "single": singles / (time.perf_counter() - clock)}


def drain(port: int, tasks: int, processes: int, threads: int) -> dict[str, float]:
    """Tasks a second from the first settlement to the last, and the server's CPU time for each, in us."""
    client = connect(port)
    fill(client, tasks)
    workers = start_workers(port, processes, threads)
    while client.xlen(TASKS) == tasks:
        time.sleep(0.002)
    clock, cpu = time.perf_counter(), cpu_seconds(client)
    while client.xlen(TASKS):
        time.sleep(0.01)
    took, spent = time.perf_counter() - clock, cpu_seconds(client) - cpu
    for worker in workers:
        worker.join()
    return {"rate": tasks / took, "redis_us": 1e6 * spent / tasks}


def latency(port: int, samples: int) -> dict[str, list[float]]:
    """Seconds from sending to the task's first line, for each of so many tasks that find the worker idle."""
    client = connect(port)
    one = client.register_script(SEND)
    [worker] = start_workers(port, 1, 8)
    time.sleep(0.2)
    sent: dict[bytes, float] = {}
    for _ in range(samples):
        id, packed = message("first_line")
        sent[id] = time.monotonic()
        one(KEYS, [id, packed])
        time.sleep(random.uniform(0.02, 0.03))
    worker.join()
    outcomes = [unpack_outcome(fields[b"out"]) for _, fields in client.xrange(ENDS)]
    return {"seconds": [outcome.result - sent[outcome.id] for outcome in outcomes]}


def cpu_seconds(client: Any) -> float:
    spent = client.info("cpu")
    return float(spent["used_cpu_user"] + spent["used_cpu_sys"])


def main(port: str, command: str, *numbers: str) -> None:
    client = connect(int(port))
    client.delete(*KEYS)
    commands: dict[str, Callable[..., Any]] = {"send": send, "drain": drain, "latency": latency}
    try:
        print(json.dumps(commands[command](int(port), *map(int, numbers))))
    finally:
        client.delete(*KEYS)


if __name__ == "__main__":
    main(*sys.argv[1:])
