"""Every link from a page of the documentation leads to something that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *(REPOSITORY / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What a heading is called in an address: its words in small letters, joined by hyphens."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    missing = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        if name.startswith(("http://", "https://", "mailto:")):
            continue
        place = (page.parent / name) if name else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            missing.append(target)
    assert not missing


FILE = re.compile(r"(?<![\w/.])(?:[\w-]+/)+[\w-]+\.(?:py|toml|j2)\b")
OURS = {path.name for path in (REPOSITORY / "src/layerscope").iterdir() if path.is_dir()} | {
    "src",
    "tests",
    "benchmarks",
}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if not page.name.startswith(("CHANGELOG", "adding-a-"))], ids=lambda page: page.name
)
def test_files_that_are_named_are_there(page):
    named = {name for name in FILE.findall(page.read_text(encoding="utf-8")) if name.split("/")[0] in OURS}
    missing = [
        name
        for name in sorted(named)
        if not any((folder / name).exists() for folder in (REPOSITORY, REPOSITORY / "src/layerscope"))
    ]
    assert not missing
