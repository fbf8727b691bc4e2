"""Pages of the documentation, and what they contain."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str = "") -> list[str]:
    """Return the fenced blocks of a page in one language.

    Args:
        page: Path of the page.
        language: Word after the fence.
    """
    return [text for word, text in _BLOCK.findall(page.read_text(encoding="utf-8")) if word == language]


def without_blocks(page: Path) -> str:
    """Return the text of a page without its fenced blocks.

    Args:
        page: Path of the page.
    """
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def section(page: Path, title: str) -> str:
    """Return the text below a heading, up to the next heading of the same or a higher level.

    Args:
        page: Path of the page.
        title: Text of the heading.
    """
    text = page.read_text(encoding="utf-8")
    masked = _BLOCK.sub(lambda block: " " * len(block[0]), text)  # comments in blocks are no headings
    found = re.search(rf"^(#+) {re.escape(title)}$", masked, re.MULTILINE)
    assert found is not None, f"{page.name} has no heading {title}"
    end = re.compile(rf"^#{{1,{len(found[1])}}} ", re.MULTILINE).search(masked, found.end())
    return text[found.end() : end.start() if end else None]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the first table in a text, without its header.

    Args:
        text: Text in Markdown.
    """
    lines = [line for line in text.split("\n\n| ", 1)[1].split("\n\n", 1)[0].splitlines() if line.strip()]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines[2:]]


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub names them.

    Args:
        page: Path of the page.
    """
    titles = re.findall(r"^#+ (.+)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands() -> list[tuple[str, str]]:
    """Return the lines of all blocks without a language that hold a command, each with the name of its page."""
    lines = [(page.name, line.strip()) for page in PAGES for block in blocks(page) for line in block.splitlines()]
    return [(name, line) for name, line in lines if re.match(r"(alpharefine|python|torchrun|srun|make|pip) ", line)]
