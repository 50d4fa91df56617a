"""Put the documents that lie beside README into the site: a hook of `mkdocs build`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {  # document → page
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
}


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each document."""
    from mkdocs.structure.files import File

    for document, page in PAGES.items():
        text = move_links((ROOT / document).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Have pages link to the documents as pages."""
    return move_links(markdown.replace("](../", "]("))


def move_links(text: str) -> str:
    """Make links of a document at the root those of a page in docs/."""
    text = text.replace("](docs/", "](")
    return re.sub(r"\]\((\w+\.md)", lambda found: f"]({PAGES.get(found[1], found[1])}", text)
