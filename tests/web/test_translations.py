"""What ships in `locale/`: complete, compiled from what stands beside it, and read by the pages."""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.contrib.admin import site
from django.test import Client
from django.utils import translation
from django.utils.translation.template import templatize

import django_taskq
from django_taskq.core.states import State
from django_taskq.models import TaskResult
from tests.records.outcomes import failed, succeeded
from tests.web.conftest import record
from tests.web.scene import OVERVIEW, QUEUES, TYPES, WORKERS, Scene, page, words

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

PACKAGE = Path(django_taskq.__file__).parent
LOCALE = PACKAGE / "locale"
LANGUAGES = sorted(path.name for path in LOCALE.iterdir())
ENTRY = re.compile(
    r'^msgid ("(?:.*"\n")*.*")\n(?:msgid_plural ("(?:.*"\n")*.*")\n)?((?:msgstr(?:\[\d\])? "(?:.*"\n")*.*"\n?)+)',
    re.MULTILINE,
)
TEXT = re.compile(r'msgstr(?:\[\d\])? ("(?:.*"\n")*.*")')
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|\{\w+\}|</?\w+>")


MARKED = {"_", "gettext", "gettext_lazy", "gettext_noop", "ngettext"}
IN_TEMPLATE = re.compile(r"\bn?gettext\(u?('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")|\b_\(u?('(?:[^'\\]|\\.)*')")


def unquoted(text: str) -> str:
    joined = "".join(part[1:-1] for part in text.split("\n"))
    return joined.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")


def catalogue(language: str) -> dict[str, tuple[str, list[str]]]:
    """Text -> its plural, or '', and its translations."""
    source = (LOCALE / language / "LC_MESSAGES" / "django.po").read_text(encoding="utf-8")
    found = {}
    for text, plural, translations in ENTRY.findall(source):
        found[unquoted(text)] = (
            unquoted(plural) if plural else "",
            [unquoted(each) for each in TEXT.findall(translations)],
        )
    found.pop("")
    return found


def texts_of_code() -> Iterator[str]:
    """What the package's modules and templates mark for translation."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKED:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value
    for path in PACKAGE.rglob("*.html"):
        for found in IN_TEMPLATE.finditer(templatize(path.read_text(encoding="utf-8"))):
            yield ast.literal_eval(found[1] or found[2])


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_of_the_code_is_missing(language: str) -> None:
    """Otherwise: `make messages`, and translate what is new."""
    texts, known = set(texts_of_code()), catalogue(language)
    assert len(texts) > 400
    assert texts - known.keys() == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_has_a_translation_with_the_same_placeholders(language: str) -> None:
    assert len(catalogue(language)) > 400
    for text, (plural, translations) in catalogue(language).items():
        for source, translated in zip([text, plural or text], translations, strict=False):
            assert translated, text
            assert sorted(PLACEHOLDER.findall(translated)) == sorted(PLACEHOLDER.findall(source)), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_compiled_is_what_stands_beside_it(language: str) -> None:
    """Otherwise: `make messages`."""
    with (LOCALE / language / "LC_MESSAGES" / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for text, (plural, translations) in catalogue(language).items():
        for number, translated in zip((1, 2), translations, strict=False):
            found = compiled.ngettext(text, plural, number) if plural else compiled.gettext(text)
            assert found == translated
    assert "fuzzy" not in (LOCALE / language / "LC_MESSAGES" / "django.po").read_text(encoding="utf-8")


@pytest.mark.django_db
def test_pages_speak_german(admin: Client, scene: Scene, settings: SettingsWrapper) -> None:
    settings.LANGUAGE_CODE = "de"
    record(failed(), succeeded())
    scene.shard.seed_waiting(3)
    with translation.override("de"):
        assert "Kein Worker lebt, und 3 Aufgaben warten." in words(page(admin, OVERVIEW))
        assert "Warteschlange" in words(page(admin, QUEUES))
        assert "manage.py taskq_worker" in words(page(admin, WORKERS))
        assert "Aufgabentypen" in words(page(admin, TYPES))
        assert "fehlgeschlagen" in words(page(admin, "/admin/django_taskq/taskresult/"))
        assert "Nach Fehlerklasse" in words(page(admin, "/admin/django_taskq/deadtask/"))


@pytest.mark.parametrize("state", State)
def test_the_page_of_a_task_has_a_word_for_each_state(state: State) -> None:
    with translation.override("de"):
        badge = site.get_model_admin(TaskResult).state(TaskResult(status=str(state)))  # type: ignore[attr-defined]
    assert f" {state}<" not in badge
