"""What happens to Redis and to the database."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading

import redis
from django.db import connection

from django_taskq.broker.inspector import Inspector
from tests.chaos import ledger
from tests.chaos.catalogue import chaos
from tests.chaos.evidence import ANYTHING
from tests.chaos.load import MIX
from tests.chaos.machine import KEYS, NAMESPACE
from tests.chaos.run import LIMIT, Plan, Run

ALWAYS = {"appendfsync": "always"}


# everysec: a fsync a second, and Redis lets the disk be one more second late.
EVERYSEC = 2.0


def kill_redis(run: Run, *, loses: float = 0.0, seconds: tuple[float, float] = (0.3, 1.5)) -> None:
    """`loses`: seconds before it in which what Redis answered may be gone."""
    with run.fault("Redis killed", loses=loses, everywhere=loses > 0, until_end=True):
        run.server.kill()
        run.pause(*seconds)
        run.server.start()


@chaos("Redis: kill -9, appendfsync always", Plan(redis=ALWAYS, seconds=5.0))
def redis_killed_always(run: Run) -> None:
    for _ in range(2):
        run.pause(0.8, 1.5)
        kill_redis(run)


@chaos("Redis: kill -9, appendfsync everysec", Plan(seconds=5.0))
def redis_killed_everysec(run: Run) -> None:
    for _ in range(2):
        run.pause(0.8, 1.5)
        kill_redis(run, loses=EVERYSEC)


@chaos("Redis: its machine loses power, appendfsync everysec: the last second is not on the disk", Plan(seconds=6.0))
def redis_power_cut(run: Run) -> None:
    run.pause(1.0, 2.5)
    synced = run.server.appended.stat().st_size
    run.pause(1.0)
    with run.fault("power cut", loses=EVERYSEC, everywhere=True, until_end=True):
        run.server.kill()
        os.truncate(run.server.appended, synced)
        run.pause(0.3, 1.5)
        run.server.start()


@chaos("Redis: restarted in good order", Plan(seconds=5.0))
def redis_restarted(run: Run) -> None:
    run.pause(0.8, 1.5)
    with run.fault("Redis restarted", until_end=True):
        run.server.restart()


@chaos("Redis: away for 30 s, with tasks running", Plan(seconds=2.0, mix={**MIX, "long": 5}, calls=150, redis=ALWAYS))
def redis_away(run: Run) -> None:
    run.pause(1.0, 1.5)
    kill_redis(run, seconds=(30.0, 30.0))


@chaos("Redis: hangs for 4 s (SIGSTOP)", Plan(seconds=6.0))
def redis_hangs(run: Run) -> None:
    run.pause(0.5, 1.5)
    freeze_redis(run, 4.0)


@chaos("Redis: hangs for 20 s, longer than every time-out", Plan(seconds=6.0, calls=200))
def redis_hangs_long(run: Run) -> None:
    run.pause(0.5, 1.5)
    freeze_redis(run, LIMIT + 5)


def freeze_redis(run: Run, seconds: float) -> None:
    with run.fault("Redis hangs", until_end=True):
        run.server.freeze()
        run.pause(seconds)
        run.server.thaw()


@chaos("Redis: one client's script runs for 4 s, others hear BUSY", Plan(seconds=6.0))
def redis_busy(run: Run) -> None:
    run.pause(0.5, 1.5)
    source = "local t = redis.call('TIME')[1] + 4 while redis.call('TIME')[1] + 0 < t do end return 1"
    with run.fault("BUSY", until_end=True), run.server.client(socket_timeout=20) as client:
        client.config_set("lua-time-limit", 50)
        with contextlib.suppress(redis.RedisError):
            client.eval(source, 0)
    run.heard("BUSY")


@chaos("Redis: kill -9 in the middle of a script, appendfsync always", Plan(redis=ALWAYS, seconds=5.0))
def redis_killed_mid_script(run: Run) -> None:
    run.pause(0.8, 1.5)
    source = "redis.call('SET', KEYS[1], 1) while true do redis.call('TIME') end"

    def never_ends() -> None:
        with contextlib.suppress(redis.RedisError, OSError), run.server.client(socket_timeout=20) as client:
            client.eval(source, 1, f"{{{NAMESPACE}}}:half-written")

    thread = threading.Thread(target=never_ends)
    thread.start()
    run.pause(0.5)
    kill_redis(run)
    thread.join()


@chaos("Redis: kill -9, then LOADING for seconds, appendfsync always", Plan(redis=ALWAYS, seconds=4.0, calls=800))
def redis_loading(run: Run) -> None:
    run.load_thread.join(60)
    with run.fault("Redis loading", until_end=True):
        run.server.kill()
        run.server.config["key-load-delay"] = "1000"  # microseconds, for each command in the file
        run.server.start(60)
    run.heard("LOADING")


@chaos("Redis: READONLY for 3 s, as after a failover", Plan(seconds=6.0))
def redis_readonly(run: Run) -> None:
    run.pause(0.5, 1.5)
    with run.fault("READONLY", until_end=True), run.server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        run.pause(3.0)
        client.execute_command("REPLICAOF", "NO", "ONE")
    run.heard("READONLY")


@chaos("Redis: SCRIPT FLUSH, twenty times")
def scripts_flushed(run: Run) -> None:
    with run.server.client() as client:
        for _ in range(20):
            run.pause(0.05, 0.15)
            with run.fault("SCRIPT FLUSH"):
                client.script_flush()
    run.heard("NOSCRIPT")


@chaos("Redis: CLIENT KILL of everybody, ten times")
def clients_killed(run: Run) -> None:
    with run.server.client() as client:
        for _ in range(10):
            run.pause(0.1, 0.3)
            with run.fault("CLIENT KILL"):
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@chaos("Redis: memory full for 3 s: producers are refused, workers drain", Plan(seconds=6.0))
def redis_full(run: Run) -> None:
    run.pause(0.5, 1.5)
    fill_redis(run, 3.0)
    run.expect(
        "no producer was refused", lambda: any(line["what"] == "refused" for line in ledger.read(run.books.sent))
    )


def fill_redis(run: Run, seconds: float) -> None:
    with run.server.client() as client:
        with run.fault("full"):
            client.config_set("maxmemory", "1mb")
            run.pause(seconds)
        client.config_set("maxmemory", "0")


@chaos("Redis: FLUSHALL", Plan(seconds=6.0))
def flushed(run: Run) -> None:
    run.pause(1.0, 2.0)
    with run.fault("FLUSHALL", loses=ANYTHING, everywhere=True):
        run.server.flush()


@chaos("Redis: replaced by an empty one", Plan(seconds=6.0))
def redis_replaced(run: Run) -> None:
    run.pause(1.0, 2.0)
    with run.fault("replaced", loses=ANYTHING, everywhere=True, until_end=True):
        run.server.kill()
        for file in run.server.directory.rglob("*.aof*"):
            file.unlink()
        run.pause(0.3, 1.0)
        run.server.start()


@chaos("Redis: the stream of a queue is deleted: its tasks are gone, the rest goes on", Plan(
    seconds=6.0, calls=900, mix={kind: weight for kind, weight in MIX.items() if kind != "keyed"}
))  # fmt: skip
def stream_deleted(run: Run) -> None:
    run.pause(1.0, 2.0)
    with run.fault("DEL", loses=ANYTHING, everywhere=True), run.server.client() as client:
        client.delete(KEYS.lane("default", 0))


@chaos("a queue is purged, five times, while it is consumed", Plan(seconds=5.0, mix={**MIX, "later": 20}))
def purged(run: Run) -> None:
    inspector, count = Inspector(run.broker), 0
    for _ in range(5):
        run.pause(0.3, 0.9)
        with run.fault("purge", cancels=True):
            count += inspector.purge("default")
    run.expect("nothing was purged", lambda: count > 0)


@chaos("Redis: a consumer group is destroyed, five times")
def group_destroyed(run: Run) -> None:
    lane = KEYS.lane("default", 0)
    with run.server.client() as client:
        for _ in range(5):
            # What was pending is delivered again, while those who had it still run it.
            with run.fault("XGROUP DESTROY", everywhere=True):
                with contextlib.suppress(redis.ResponseError):
                    client.xgroup_destroy(lane, "workers")
                run.pause(0.5)


@chaos("database: locked for 6 s")
def database_locked(run: Run) -> None:
    run.pause(0.3, 1.0)
    lock_database(run, 6.0)


def lock_database(run: Run, seconds: float) -> None:
    with run.fault("database locked"):
        if connection.vendor == "sqlite":
            with contextlib.closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=10)) as other:
                other.execute("BEGIN EXCLUSIVE")
                run.pause(seconds)
                other.rollback()
        else:
            from django.db import transaction

            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("LOCK TABLE django_taskq_taskresult IN ACCESS EXCLUSIVE MODE")
                run.pause(seconds)


@chaos("database: every connection is ended, ten times", needs="postgresql")
def database_cut(run: Run) -> None:
    ended = 0
    for _ in range(10):
        run.pause(0.1, 0.3)
        with run.fault("connections ended"), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            ended += len(cursor.fetchall())
    run.expect("no connection was ended", lambda: ended > 0)
