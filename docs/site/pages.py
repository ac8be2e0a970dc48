"""Hook of MkDocs: which files of the repository are pages of the site, and under which addresses.

Files keep their paths in the repository, so a relative link leads to the same file on the site, in a checkout, and on
a server that shows the repository.  In addresses the leading ``docs/`` is left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import notebooks
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Pages outside docs/.
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
# Files of the site itself, by their address.
ASSETS = {f"assets/{name}": name for name in ("site.css", "iframe-worker.js", "accessible.js")}
# The list of a section in the navigation, which is named by a label that may hold an icon alone; the title follows.
_SECTION = re.compile(
    r"""(<nav class="md-nav" data-md-level="[1-9]") aria-labelledby="[^"]*"([^>]*>\s*"""
    r"""<label class="md-nav__title"[^>]*>\s*<span[^>]*></span>([^<]*))"""
)
_LINK = re.compile(r"""\]\(([^)#\s]+)(?:#[^)]*)?\)|href="([^"#:]+)\"""")


def on_files(files: Files, *, config: Any) -> Files:
    """Return the theme's files, all pages, and whatever pages link to."""
    theme = [file for file in files if file.src_dir not in (None, config.docs_dir)]
    pages = {path: path.read_text(encoding="utf-8") for path in _markdown()}
    for path in sorted((DOCS / "tutorials").glob("*.ipynb")):
        pages[path] = notebooks.to_markdown(path)
    linked = {target for path, text in pages.items() for target in _linked(path, text)}
    made = [_page(config, path, text) for path, text in pages.items()]
    made += [_static(config, path) for path in sorted(linked - {p for p in pages if p.suffix == ".md"})]
    for address, name in ASSETS.items():
        made.append(File.generated(config, address, abs_src_path=str(DOCS / "site" / name)))
    return Files([*theme, *made])


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with links to tutorials that lead to their pages instead of their notebooks."""
    return re.sub(r"(\]\([^):]*)\.ipynb((?:#[^)]*)?\))", r"\1.md\2", markdown)


def on_post_page(output: str, **_: Any) -> str:
    """Return a page with what the theme leaves out for screen readers: names, and no empty heads of columns."""
    head = 'data-md-component="search" role="dialog"'
    output = output.replace(f"{head}>", f'{head} aria-label="Search">')
    output = re.sub(r"<th( [^>]*)?></th>", r"<td\1></td>", output)
    return _SECTION.sub(lambda found: f'{found[1]} aria-label="{found[3].strip()}"{found[2]}', output)


def _markdown() -> list[Path]:
    return [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in TOP)]


def _linked(page: Path, text: str) -> set[Path]:
    """Return the files that a page links to or shows."""
    targets = (match[1] or match[2] for match in _LINK.finditer(text))
    found = {(page.parent / target).resolve() for target in targets if "://" not in target}
    return {path for path in found if path.is_file() and path.is_relative_to(ROOT)}


def _page(config: Any, path: Path, text: str) -> File:
    """Return a page; those called README keep that name, since index.html may be another file of the folder."""
    source = path.relative_to(ROOT).with_suffix(".md").as_posix()
    file = File.generated(config, source, content=text)
    address = source.removeprefix("docs/").removesuffix(".md")
    file.dest_uri = f"{address}.html"
    return file


def _static(config: Any, path: Path) -> File:
    source = path.relative_to(ROOT).as_posix()
    file = File.generated(config, source, abs_src_path=str(path))
    file.dest_uri = source.removeprefix("docs/")
    return file
