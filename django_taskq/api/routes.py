"""Every address of the API: who answers it and what it takes to ask. The server and openapi.json are made of this."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django_taskq.api import dead, dead_many, limits, periodic, queues, stats, task_types, tasks, waiting, workers

SLASHED = ("task", "limit", "breaker", "name")  # parts of paths


@dataclass(frozen=True)
class Route:
    """The handler's type hints say the rest: parts of the path by name, `query`, `body`, and what is returned.

    One that has to know who calls takes an `actor`.
    """

    method: str
    path: str
    handler: Callable[..., Any]
    permissions: tuple[str, ...]
    status: int = 200
    location: str = ""  # where what was made is found, with {id} of the answer
    errors: tuple[int, ...] = ()  # beside those that every route has

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        """Of the handler's parameters and `return`."""
        return typing.get_type_hints(self.handler, include_extras=True)

    @property
    def query(self) -> Any:
        """The struct of the query string, or None."""
        return self.hints.get("query")

    @property
    def body(self) -> Any:
        """The struct of the body, or None."""
        return self.hints.get("body")

    @property
    def response(self) -> Any:
        """The struct of the answer."""
        return self.hints["return"]

    @functools.cached_property
    def parameters(self) -> dict[str, Any]:
        """Those in the path, with their types."""
        return {name: self.hints[name] for name in re.findall(r"{(\w+)}", self.path)}

    @property
    def address(self) -> str:
        """The path as Django has it. Names of tasks, and what is made of them, may contain slashes."""
        return re.sub(r"{(\w+)}", lambda part: f"<{'path' if part[1] in SLASHED else 'str'}:{part[1]}>", self.path)

    @property
    def name(self) -> str:
        """For operations and addresses: module and function."""
        return f"{self.handler.__module__.rpartition('.')[2]}_{self.handler.__name__}"

    @property
    def description(self) -> str:
        """The handler's docstring."""
        return inspect.getdoc(self.handler) or self.name


MONITOR = ("monitor",)
DEAD = ("view_deadtask",)
PERIODIC = ("view_periodictask",)

# The first path that fits answers: dead/requeue before dead/{id}.
ROUTES = (
    Route("POST", "tasks", tasks.submit, ("submit",), 202, "tasks/{id}", errors=(404, 409, 413, 422, 429)),
    Route("GET", "tasks/{id}", tasks.show, ("view_taskresult",), errors=(404,)),
    Route("POST", "tasks/{id}/cancel", tasks.cancel, ("cancel",), errors=(404, 409)),
    Route("GET", "queues", queues.index, MONITOR),
    Route("GET", "queues/{queue}", queues.show, MONITOR, errors=(404,)),
    Route("POST", "queues/{queue}/pause", queues.pause, ("pause",), errors=(404,)),
    Route("POST", "queues/{queue}/resume", queues.resume, ("pause",), errors=(404,)),
    Route("POST", "queues/{queue}/purge", queues.purge, ("purge",), errors=(404,)),
    Route("GET", "queues/{queue}/tasks", waiting.of_queue, MONITOR, errors=(404,)),
    Route("GET", "types/paused", task_types.index, MONITOR),
    Route("POST", "types/{task}/pause", task_types.pause, ("pause",), errors=(404,)),
    Route("POST", "types/{task}/resume", task_types.resume, ("pause",), errors=(404,)),
    Route("GET", "limits", limits.index, MONITOR),
    Route("GET", "limits/{limit}/waiting", waiting.of_limit, MONITOR, errors=(404,)),
    Route("GET", "breakers", limits.breakers, MONITOR),
    Route("POST", "breakers/{breaker}/close", limits.close, ("pause",), errors=(404,)),
    Route("GET", "periodic", periodic.index, PERIODIC),
    Route("POST", "periodic/{name}/run", periodic.run, (*PERIODIC, "run"), 202, "tasks/{id}", (404, 409, 422, 429)),
    Route("POST", "periodic/{name}/enable", periodic.enable, (*PERIODIC, "change_periodictask"), errors=(404,)),
    Route("POST", "periodic/{name}/disable", periodic.disable, (*PERIODIC, "change_periodictask"), errors=(404,)),
    Route("GET", "periodic/{name}", periodic.show, PERIODIC, errors=(404,)),
    Route("GET", "workers", workers.index, MONITOR),
    Route("GET", "workers/{worker}", workers.show, MONITOR, errors=(404,)),
    Route("POST", "workers/{worker}/quiet", workers.quiet, ("control",), 202, errors=(404,)),
    Route("POST", "workers/{worker}/stop", workers.stop, ("control",), 202, errors=(404,)),
    Route("GET", "stats", stats.show, MONITOR),
    Route("GET", "dead", dead.index, DEAD),
    Route("POST", "dead/requeue", dead_many.requeue, (*DEAD, "requeue"), errors=(413,)),
    Route("POST", "dead/discard", dead_many.discard, (*DEAD, "discard"), errors=(413,)),
    Route("GET", "dead/{id}", dead.show, DEAD, errors=(404,)),
    Route("POST", "dead/{id}/requeue", dead.requeue, (*DEAD, "requeue"), errors=(404, 409)),
    Route("POST", "dead/{id}/discard", dead.discard, (*DEAD, "discard"), errors=(404,)),
)
