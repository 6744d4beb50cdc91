"""Every fault there is, by name. Each is a function that does it to a run under load, and says what it may cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.run import Plan, Run


@dataclass(frozen=True)
class Chaos:
    """A fault and the run that it needs."""

    name: str
    title: str
    plan: Plan
    act: Callable[[Run], None]
    needs: str = ""  # a database other than SQLite


CATALOGUE: dict[str, Chaos] = {}


def chaos(
    title: str, plan: Plan | None = None, needs: str = ""
) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    """Registers a fault under the name of its function."""

    def register(act: Callable[[Run], None]) -> Callable[[Run], None]:
        name = act.__name__.replace("_", "-")
        CATALOGUE[name] = Chaos(name, title, plan or Plan(), act, needs)
        return act

    return register


def register(name: str, title: str, act: Callable[[Run], None], plan: Plan | None = None) -> None:
    """Registers one of a family of faults."""
    CATALOGUE[name] = Chaos(name, title, plan or Plan(), act)


def load_catalogue() -> dict[str, Chaos]:
    """All of them, in the order of the table."""
    from tests.chaos import faults_of_processes, faults_at_points, faults_of_limits  # noqa: F401, I001
    from tests.chaos import faults_of_networks, faults_of_servers, storm  # noqa: F401

    return CATALOGUE
