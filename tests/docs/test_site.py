"""The site of the documentation: it builds without a warning, reads without a network, and its tutorials run."""

from __future__ import annotations

import ast
import html.parser
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from accessibility import NEEDS_AXE, violations
from browsing import NEEDS_BROWSER, new_browser, show, until

import xpnet

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.ipynb"))
needs_site = pytest.mark.skipif(
    not all(map(find_spec, ("mkdocs", "material", "mkdocstrings"))),
    reason="needs the packages of the extra docs: pip install '.[docs]'",
)
needs_notebooks = pytest.mark.skipif(
    not all(map(find_spec, ("nbclient", "ipykernel", "sklearn", "pandas"))),
    reason="needs the packages of the extras docs and sklearn, and pandas",
)


def public_names() -> set[str]:
    """Return every public name of the package and of its modules for users."""
    testing = importlib.import_module("xpnet.testing")
    names = {f"xpnet.{name}" for name in xpnet.__all__}
    names |= {f"xpnet.testing.{name}" for name, value in vars(testing).items() if is_own(value, testing)}
    return names | {f"xpnet.sklearn.{name}" for name in names_of_sklearn()}


def names_of_sklearn() -> list[str]:
    """Return ``__all__`` of xpnet.sklearn without importing it, which takes seconds and needs scikit-learn."""
    source = (ROOT / "xpnet" / "sklearn" / "__init__.py").read_text(encoding="utf-8")
    (value,) = re.findall(r"^__all__ = (\[.*?\])", source, re.MULTILINE | re.DOTALL)
    names = ast.literal_eval(value)
    assert names
    return names


def is_own(value: object, module: object) -> bool:
    return getattr(value, "__module__", "") == module.__name__ and not value.__name__.startswith("_")


def cells_of(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def test_reference_has_every_public_name_once():
    text = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    entries = [name for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE) if not name.startswith("xpnet.report.")]
    assert len(entries) == len(set(entries))
    assert public_names() - set(entries) == set(), "write ::: NAME into a page of docs/api"
    assert set(entries) - public_names() == set()
    assert set(dir(xpnet)) >= {name.split(".")[1] for name in entries}


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_is_stored_as_executed(path):
    code = cells_of(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert path.stat().st_size < 500_000
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(tmp|home|root|work|Users)/", text)
    assert sum("assert " in "".join(cell["source"]) for cell in code) >= 3


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_links_lead_somewhere(path):
    for cell in cells_of(path, "markdown"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", "".join(cell["source"])):
            assert (path.parent / target).exists(), target


def test_notebook_becomes_a_page_with_its_outputs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "site")
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["a  table " + 100 * "-" + "\n", 30 * "word " + "\n"]},
        {"output_type": "display_data", "data": {"image/png": "AAAA"}, "metadata": {"image/png": {"width": 300.0}}},
        {
            "output_type": "execute_result",
            "data": {"text/html": "<p>\n\nHello</p>", "text/plain": "no"},
            "metadata": {},
        },
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Text."]},
        {"cell_type": "code", "source": ["1 + 1"], "outputs": outputs},
    ]
    path = tmp_path / "lesson.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    page = importlib.import_module("notebooks").to_markdown(path)
    assert page.startswith("# Title\n")
    assert '<a href="lesson.ipynb" download>' in page
    assert "```python\n1 + 1\n```" in page
    assert "a  table " + 100 * "-" in page  # tables keep their lines, sentences do not
    assert max(len(line) for line in page.splitlines() if line.strip().startswith("word")) <= 92
    assert '<img alt="The figure that this cell draws" width="300" src="data:image/png;base64,AAAA">' in page
    assert '<div class="output"><p> Hello</p></div>' in page  # without the empty line, which would end the block


@pytest.mark.slow
@needs_notebooks
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs_and_its_claims_hold(path, tmp_path):
    environment = os.environ | {"XPNET_FAST": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment |= {"IPYTHONDIR": str(tmp_path / "ipython"), "JUPYTER_RUNTIME_DIR": str(tmp_path / "jupyter")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    code = (
        "import sys; from pathlib import Path; import notebooks; "
        "notebooks.execute(Path(sys.argv[1]), Path(sys.argv[2])); print('executed')"
    )
    folder = tmp_path / "here"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(folder)],
        cwd=DOCS / "site",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "executed\n", done.stderr[-3000:]


class Links(html.parser.HTMLParser):
    """What a page loads, the addresses of its links, and its ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids.add(found.get("id", ""))
        if tag == "a":
            self.leads.append(found.get("href") or "")
        elif tag == "link" and found.get("rel") not in ("prev", "next", "canonical"):
            self.loads.append(found["href"])
        elif "src" in found:
            self.loads.append(found["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory, worker_id) -> Path:
    """Return the folder of the site, as CI and readers build it; workers beside each other build it once."""
    there = tmp_path_factory.getbasetemp()
    there = (there if worker_id == "master" else there.parent) / "site-of-the-documentation"
    done = there / "built.txt"
    try:
        there.mkdir()
    except FileExistsError:
        end = time.monotonic() + 120
        while not done.exists():
            assert time.monotonic() < end, "waited in vain for the site that another worker builds"
            time.sleep(0.1)
    else:
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(there / "site")]
        built = subprocess.run(
            [*command, "--config-file", str(DOCS / "mkdocs.yml")],
            env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        (there / "built.part").write_text(f"{built.returncode}\n{built.stdout}{built.stderr}")
        (there / "built.part").rename(done)
    said = done.read_text()
    assert said.startswith("0\n"), said
    assert "WARNING" not in said, said
    return there / "site"


@pytest.mark.slow
@needs_site
def test_site_loads_nothing_from_a_network(site):
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > 35
    for path, page in pages.items():
        remote = [target for target in page.loads if re.match(r"(https?:)?//", target)]
        assert not remote, (path, remote)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet
    assert (site / "assets" / "iframe-worker.js").is_file()
    assert (site / "search" / "search_index.js").is_file()


@pytest.mark.slow
@needs_site
def test_site_describes_every_public_name(site):
    pages = [path.read_text(encoding="utf-8") for path in (site / "api").glob("*.html")]
    assert public_names() <= set().union(*(Links(page).ids for page in pages))
    # Docstrings are written for Sphinx; their marks become links and code, and settings show their defaults.
    words = " ".join(re.sub("<[^>]*>", "", page) for page in pages)
    assert not re.search(r":(func|class|meth|mod):|``|\bsetting\(", words)
    assert 'schedule="triangular"' in words or "schedule=&quot;triangular&quot;" in words
    words = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "train_population" in words
    assert "winner" in words  # of a tutorial


@pytest.mark.slow
@needs_site
def test_site_shows_outputs_of_tutorials_and_leads_to_files(site):
    page = (site / "tutorials" / "first-network.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64") == 3
    assert 'href="first-network.ipynb" download' in page
    assert (site / "tutorials" / "first-network.ipynb").is_file()
    home = Links((site / "index.html").read_text(encoding="utf-8"))
    for target in home.leads:
        if not target.startswith(("#", "http", ".")):
            assert (site / target.partition("#")[0]).is_file(), target


@pytest.mark.slow
@needs_site
@pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="needs chromium and chromedriver, which are not installed",
)
def test_site_in_a_browser_finds_words_and_fits_a_phone(site, tmp_path):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path / 'browser'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        browser.get((site / "index.html").as_uri())
        browser.find_element("css selector", "input.md-search__input").send_keys("Nesterov")
        end = time.monotonic() + 20
        while not (found := browser.find_elements("css selector", ".md-search-result__item a")):
            assert time.monotonic() < end, "the search finds nothing"
            time.sleep(0.05)
        assert any("training.html" in (link.get_attribute("href") or "") for link in found)
        size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for page in ("index", "training", "theory", "api/training", "tutorials/course-lab"):
            browser.get((site / f"{page}.html").as_uri())
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 390, page
        assert browser.get_log("browser") == []
    finally:
        browser.quit()


# One page of each kind: the home, prose with code and tables, options, the Python reference, a tutorial.
@pytest.mark.slow
@needs_site
@NEEDS_BROWSER[1]
@NEEDS_AXE
def test_pages_of_the_site_violate_no_rule_of_accessibility(site, tmp_path):
    browser = new_browser(tmp_path / "browser")
    try:
        narrow = ("index", "training", "cli", "api/charts", "tutorials/first-network")
        for page, width in (("training", 1280), *((page, 390) for page in narrow)):
            show(browser, site / f"{page}.html", dark=width == 390, width=width)
            until(lambda: browser.execute_script("return document.documentElement.dataset.mended"), page)
            assert violations(browser, opened=False) == [], f"{page}, {width} pixels wide"
    finally:
        browser.quit()
