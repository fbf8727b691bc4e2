"""Hooks of mkdocs: files outside of ``docs/`` that pages link to, and links as they are in the repository."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]

OUTSIDE = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff"),
    *("alpharefine/weights/*.md", "examples/*.*", "tests/golden/README.md"),
)
"""Files that are part of the site, as patterns from the root of the repository."""

_LINK = re.compile(r"(\]\()([^)#\s]+)")
_PAGE_IN_HTML = re.compile(r'href="(?!\w+:)([^"#]+\.(?:md|ipynb))')
_HOME = "README.md"

log = get_plugin_logger(__name__)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside of ``docs/``.

    Args:
        files: Files of the site.
        config: Configuration of mkdocs.
    """
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, _in_site(name), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of the repository into links of the site. Code that looks like a link is not expected.

    Args:
        markdown: Text of the page.
        page: Page.
        config: Configuration of mkdocs.
        files: Files of the site.
    """
    uri = page.file.src_uri
    inside = Path(page.file.abs_src_path or "").is_relative_to(config.docs_dir)
    folder = posixpath.dirname(f"docs/{uri}" if inside else _HOME if uri == "index.md" else uri)

    def moved(link: re.Match[str]) -> str:
        name = _in_site(posixpath.normpath(posixpath.join(folder, link[2])))
        if "://" in link[2] or name not in files.src_uris:
            return link[0]
        return link[1] + posixpath.relpath(name, posixpath.dirname(uri) or ".")

    return _LINK.sub(moved, markdown)


def on_page_content(html: str, page: Page, files: Files, **_: object) -> str:
    """Turn links of notebooks to pages into links of the site, which mkdocs does in pages of Markdown alone.

    Args:
        html: Content of the page.
        page: Page.
        files: Files of the site.
    """
    if not page.file.src_uri.endswith(".ipynb"):
        return html

    def moved(link: re.Match[str]) -> str:
        name = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), link[1]))
        file = files.get_file_from_path(name)
        if file is None:
            log.warning("%s links to %s, which does not exist", page.file.src_uri, link[1])
        return link[0] if file is None else f'href="{file.url_relative_to(page.file)}'

    return _PAGE_IN_HTML.sub(moved, html)


def _in_site(name: str) -> str:
    """Return the place in the site of a file of the repository."""
    return "index.md" if name == _HOME else name.removeprefix("docs/")
