"""README.md becomes the first page of the site, CHANGELOG.md the last, and Mermaid comes along."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
MERMAID = ROOT / ".docs" / "mermaid.min.js"
LINK = re.compile(r"\]\(((?:docs/|\.\./)*)([\w./-]+\.(?:md|png))(#[\w-]*)?\)")
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    if not MERMAID.is_file():
        raise PluginError(f"{MERMAID} is missing: build the site with `make docs`, which fetches it")
    for name, page in PAGES.items():
        text = LINK.sub(_within_docs, (ROOT / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, MERMAID.name, abs_src_path=str(MERMAID)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Links from docs/ to the two pages that live above it."""
    for name, page in PAGES.items():
        markdown = re.sub(rf"\]\((?:\.\./)({'(?:../)*'}){name}", rf"](\1{page}", markdown)
    return markdown


def _within_docs(link: re.Match[str]) -> str:
    """A link of a page beside docs/ as seen from inside it."""
    _, path, anchor = link.groups()
    return f"]({PAGES.get(path, path)}{anchor or ''})"
