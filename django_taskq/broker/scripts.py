"""The Lua scripts of broker/lua: one file per transition.

`-- @include name` takes in broker/lua/lib/name.lua, `-- @script name` all of another script.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources

_INCLUDE = re.compile(r"^-- @include (\w+)$", re.MULTILINE)
_SCRIPT = re.compile(r"^-- @script (\w+)$", re.MULTILINE)
_FOLDER = resources.files("django_taskq.broker") / "lua"


class Script:
    """One transition: its source with all includes, and the SHA-1 that EVALSHA takes."""

    __slots__ = ("name", "sha", "source")

    def __init__(self, name: str) -> None:
        self.name = name
        text = _SCRIPT.sub(lambda match: _read(match[1]), _read(name))
        self.source = _with_includes(text)
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"<Script {self.name}>"


def _with_includes(text: str) -> str:
    return _INCLUDE.sub(lambda match: _with_includes(_read(f"lib/{match[1]}")), text)


def _read(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text()


ENQUEUE = Script("enqueue")
DISPLACE = Script("displace")
FIRE = Script("fire")
FIRE_DISPLACE = Script("fire_displace")
REQUEUE = Script("requeue")
CLAIM = Script("claim")
COMPLETE = Script("complete")
BURY = Script("bury")
RETRY = Script("retry")
RELEASE = Script("release")
CANCEL = Script("cancel")
FIND = Script("find")
INSPECT = Script("inspect")
RESUME = Script("resume")
RESUME_TASK = Script("resume_task")
SWEEP = Script("sweep")
BREAKER = Script("breaker")
LATE = Script("late")
DECLARE = Script("declare")
REPLAN = Script("replan")
PENDING = Script("pending")
REGISTER = Script("register")
BEAT = Script("beat")
CONTROL = Script("control")
DECLARE_DEAD = Script("declare_dead")
RECLAIM = Script("reclaim")
FORGET = Script("forget")
LEASE = Script("lease")
ADVANCE = Script("advance")
TRIM = Script("trim")
RELAY_LEASE = Script("relay_lease")
RELAY = Script("relay")
RELAY_DISPLACE = Script("relay_displace")
WITHDRAW = Script("withdraw")

ALL = (
    ENQUEUE, DISPLACE, REQUEUE, CLAIM, COMPLETE, BURY, RETRY, RELEASE, CANCEL, FIND, PENDING, INSPECT, RESUME,
    RESUME_TASK, SWEEP, BREAKER, LATE, DECLARE, REPLAN,
    REGISTER, BEAT, CONTROL, DECLARE_DEAD, RECLAIM, FORGET, LEASE, ADVANCE, TRIM,
    RELAY_LEASE, RELAY, RELAY_DISPLACE, WITHDRAW, FIRE, FIRE_DISPLACE,
)  # fmt: skip
