"""MkDocs' hook: pages stand where they stand in the project, so that links are the same there and on the site.

Whatever a page links becomes part of the site as well: another page, or a file as it is. A folder cannot; of a link to
one the words stay.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[([^]\[]+)]\((?!\w+:)([^)#\s]+)(#[^)]*)?\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages of docs/ under their names in the project, and all that they link, directly or not."""
    pages = []
    for file in [file for file in files if Path(file.abs_src_path or "/").is_relative_to(ROOT / "docs")]:
        files.remove(file)
        pages.append(f"docs/{file.src_uri}")
        _add(files, config, pages[-1], file.dest_uri)
    for page in pages:  # it grows meanwhile
        for linked in _linked(page):
            if files.get_file_from_path(linked) is None:
                # The project's README would be the front page.
                _add(files, config, linked, "readme/index.html" if linked == "README.md" else None)
                pages.append(linked)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Without links to folders."""
    folder = (ROOT / page.file.src_uri).parent
    return LINK.sub(lambda link: link[1] if (folder / link[2]).is_dir() else link[0], markdown)


def _add(files: Files, config: MkDocsConfig, name: str, dest_uri: str | None) -> None:
    file = File.generated(config, name, abs_src_path=str(ROOT / name))
    if dest_uri:
        file.dest_uri = dest_uri
    files.append(file)


def _linked(page: str) -> Iterator[str]:
    """The files that a page links, by their names in the project."""
    if page.endswith(".md"):
        path = ROOT / page
        for _words, target, _anchor in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
            linked = (path.parent / target).resolve()
            if linked.is_file() and linked.is_relative_to(ROOT):
                yield linked.relative_to(ROOT).as_posix()
