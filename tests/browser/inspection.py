"""What holds for every page: axe finds nothing serious, and nothing sticks out to the side."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

WIDEST = """() => {
  const edge = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= edge) return [];
  return [...document.body.querySelectorAll("*")]
    .filter((element) => element.getBoundingClientRect().right > edge + 1 && !element.closest(".tq-scroll, .results"))
    .map((element) => element.outerHTML.slice(0, 120)).slice(0, 5);
}"""
# What Django draws is Django's: links among breadcrumbs, its search field, its fields for date and time.
DJANGOS = [".breadcrumbs", "#changelist-search", ".vDateField", ".vTimeField"]
# A colour that is still fading into another has no contrast that counts.
SERIOUS = """async ([djangos, only]) => {
  await Promise.allSettled(document.getAnimations().map((animation) => animation.finished));
  const exclude = djangos.filter((one) => document.querySelector(one)).map((one) => [one]);
  const rules = only ? { runOnly: only } : {};
  const found = await axe.run({ exclude }, { resultTypes: ["violations"], ...rules });
  return found.violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
    .map((one) => [one.id, one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160))]);
}"""


@cache
def axe() -> str:
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def sticks_out(page: Page) -> list[str]:
    """Elements that make the page wider than the window."""
    found: list[str] = page.evaluate(WIDEST)
    return found


def barriers(page: Page, only: list[str] | None = None) -> list[Any]:
    """What axe calls serious or critical, by all its rules or by these."""
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(axe())
    found: list[Any] = page.evaluate(SERIOUS, [DJANGOS, only])
    return found
