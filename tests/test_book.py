"""The book: its pages without a browser, then as a reader sees them, in Chromium."""

import copy
import dataclasses
import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from urllib.parse import unquote, urlsplit

import pytest

for module in ("sphinx", "myst_nb", "sphinx_design", "furo", "jupytext"):
    pytest.importorskip(module)
bs4 = pytest.importorskip("bs4")
nbformat = pytest.importorskip("nbformat")

import small_course  # noqa: E402

ROOT = small_course.ROOT
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS = {"desktop": 1280, "phone": 390}


def build(notebooks, out):
    """Run the command that `make book` runs; returns what it said."""
    command = [sys.executable, ROOT / "book/build.py"]
    command += ["--notebooks", notebooks, "--out", out]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def built(notebooks, out):
    done = build(notebooks, out)
    assert (done.returncode, done.stderr) == (0, "")
    return out / "html"


@pytest.fixture(scope="module")
def small_book(tmp_path_factory):
    """The folder of the built book of a small course."""
    out = tmp_path_factory.mktemp("small")
    return built(small_course.write(out / "notebooks"), out)


@pytest.fixture(scope="module")
def course_book(tmp_path_factory):
    """The folder of the built book of the notebooks here."""
    return built(ROOT / "notebooks", tmp_path_factory.mktemp("course"))


@pytest.fixture(scope="module", params=["small_book", "course_book"])
def book(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def small(small_book):
    """The soup of every page of the small course."""
    return soups(small_book)


@functools.cache
def soups(html):
    return {
        path.relative_to(html).as_posix(): bs4.BeautifulSoup(
            path.read_text(), "html.parser"
        )
        for path in sorted(html.rglob("*.html"))
    }


def tab_sets(soup):
    """Every tab set as {label: text of the tab}."""
    return [
        {
            label.text.strip(): " ".join(label.find_next_sibling("div").text.split())
            for label in tabs.find_all("label", recursive=False)
        }
        for tabs in soup.select(".sd-tab-set")
    ]


# Pages, without a browser


def test_a_run_of_tagged_cells_is_one_tab_set(small):
    first, printed, last = tab_sets(small["02_tracks.html"])
    assert first == {
        "PyTorch": "PyTorch has modules. "
        'print("made by torch") made by torch '
        'print("and more by torch") and more by torch',
        "TensorFlow": 'print("made by tensorflow") made by tensorflow',
        "JAX": r'JAX has \(f\). print("made by jax") made by jax',
        "MXNet": 'print("made by mxnet") made by mxnet',
    }
    assert list(first) == ["PyTorch", "TensorFlow", "JAX", "MXNet"]
    assert printed == {
        "PyTorch": "loss of torch",
        "TensorFlow": "loss of tensorflow",
        "JAX": "loss of jax",
        "MXNet": "loss of mxnet",
    }
    assert last == {
        "JAX": 'print("jax only") jax only',
        "MXNet": 'print("mxnet only") mxnet only',
    }


def test_what_all_frameworks_share_stands_once_and_in_no_tab(small):
    page = small["02_tracks.html"]
    text = page.article.text
    assert text.count("the same everywhere") == 2  # the code, and what it printed
    assert text.count('"loss of", TRACK') == 1
    assert text.count("Written once.") == 1
    for tabs in page.select(".sd-tab-set"):
        assert "the same everywhere" not in tabs.text
        assert not tabs.find(["h1", "h2", "h3"])


def test_tab_sets_of_the_page_have_one_group(small):
    labels = small["02_tracks.html"].select("label.sd-tab-label")
    assert {label["data-sync-group"] for label in labels} == {"framework"}
    assert {label.text.strip(): label["data-sync-id"] for label in labels} == {
        "PyTorch": "torch",
        "TensorFlow": "tensorflow",
        "JAX": "jax",
        "MXNet": "mxnet",
    }


def test_a_link_to_the_notebook_of_a_framework_opens_its_tabs(small):
    links = {a.text: a["href"] for a in small["01_formulas.html"].select("article a")}
    assert links["JAX"] == "02_tracks.html?framework=jax"
    assert links["layer"] == "02_tracks.html?framework=torch#the-layer"
    links = {
        a.text: a["href"] for a in small["exercises/1_bias.html"].select("article a")
    }
    assert links["MXNet"] == "../02_tracks.html?framework=mxnet"
    assert links["the formulas"] == "../01_formulas.html#the-numbers"


def test_a_solution_is_named_but_no_part_of_the_book(small):
    page = small["exercises/1_bias.html"]
    assert "later the solution (solutions/1_bias.ipynb)." in page.article.text
    assert not [name for name in small if "solution" in name]


def test_markdown_of_notebooks_is_plain(small):
    text = " ".join(small["01_formulas.html"].article.text.split())
    assert "may begin with % and is text all the same." in text


def test_setup_cells_and_warnings_are_left_out(small):
    for page in small.values():
        assert "find_spec" not in page.text
        assert "not to be read" not in page.text


def test_the_notebooks_of_a_page_are_offered_under_its_title(small):
    def offered(page):
        return [a.text for a in small[page].select(".notebook-files a.download")]

    assert offered("01_formulas.html") == ["01_formulas.ipynb"]
    assert offered("02_tracks.html") == [
        "02_tracks_torch.ipynb",
        "02_tracks_tensorflow.ipynb",
        "02_tracks_jax.ipynb",
        "02_tracks_mxnet.ipynb",
    ]


def test_each_fault_in_a_notebook_is_an_error(tmp_path):
    faults = {
        "[x](nowhere.ipynb)": "'nowhere.ipynb'",
        "[x](../solutions/none.ipynb)": "'../solutions/none.ipynb'",
        "[x](exercises/1_bias.ipynb#no-such)": "'no-such'",
        "![x](figures/none.png)": "figures/none.png",
        "### Two levels down": "Non-consecutive header level",
    }
    text = "\n\n".join(["# Title", *faults])
    done = build(small_course.write(tmp_path / "notebooks", formulas=text), tmp_path)
    assert done.returncode == 1
    warnings = done.stderr.strip().splitlines()
    for said in faults.values():
        assert len([line for line in warnings if said in line]) == 1, said


def test_a_notebook_that_is_not_ready_is_named(tmp_path):
    pages = small_course.load(ROOT / "book/pages.py")

    def said(folder):
        with pytest.raises(pages.Unready) as error:
            pages.write_pages(folder, folder / "pages")
        return str(error.value)

    folder = small_course.write(tmp_path / "missing")
    (folder / "02_tracks_jax.ipynb").unlink()
    assert said(folder) == "02_tracks_jax.ipynb is missing: make notebooks"
    done = build(folder, tmp_path)
    assert (done.returncode, done.stderr) == (1, f"book: {said(folder)}\n")

    folder = small_course.write(tmp_path / "changed")
    source = folder / "02_tracks.md"
    source.write_text(source.read_text().replace("made by jax", "made by hand"))
    assert (
        said(folder) == "02_tracks_jax.ipynb differs from 02_tracks.md: make notebooks"
    )

    folder = small_course.write(tmp_path / "not_run")
    notebook = nbformat.read(folder / "01_formulas.ipynb", 4)
    notebook.cells[-1].execution_count = None
    nbformat.write(notebook, folder / "01_formulas.ipynb")
    assert said(folder) == "01_formulas.ipynb was not executed: make notebooks"

    tracks = small_course.TRACKS.replace("JAX has $f$.", "## JAX")
    folder = small_course.write(tmp_path / "heading", tracks=tracks)
    assert said(folder) == "a heading cannot stand in a tab: '## JAX'"

    folder = small_course.write(tmp_path / "title", formulas="No title.\n")
    assert said(folder) == "the first line is not a title: 'No title.'"


def test_every_link_and_anchor_of_the_book_exists(book):
    pages = soups(book)
    ids = {name: {t["id"] for t in page.select("[id]")} for name, page in pages.items()}
    broken, seen = [], 0
    for name, page in pages.items():
        for tag in page.select("[href], [src]"):
            url = urlsplit(tag.get("href") or tag.get("src") or "")
            if url.scheme:
                continue
            path = (book / name).parent / unquote(url.path) if url.path else book / name
            seen += 1
            if not path.is_file():
                broken.append((name, url.geturl()))
            elif url.fragment and path.suffix == ".html":
                target = path.resolve().relative_to(book.resolve()).as_posix()
                if url.fragment not in ids[target] | {"", "top"}:
                    broken.append((name, url.geturl()))
    assert broken == []
    assert seen > 50


def test_nothing_of_the_book_is_fetched_from_another_machine(book):
    fetched = [
        (name, str(tag)[:100])
        for name, page in soups(book).items()
        for tag in page.select(
            "script[src], link[href], img[src], iframe, object, embed"
        )
        if urlsplit(tag.get("src") or tag.get("href") or "//").netloc
    ]
    assert fetched == []


def test_no_formula_or_markdown_is_left_in_the_text(book):
    left = []
    for name, page in soups(book).items():
        article = copy.copy(page.find("article"))
        for tag in article.select("pre, code, .math, script, style, .headerlink"):
            tag.decompose()
        text = article.get_text(" ")
        left += [
            (name, found[0])
            for found in re.finditer(r".{0,30}(?:\$|\\[a-z]+|\*\*|\]\(|`).{0,30}", text)
        ]
    assert left == []


# In a browser


@pytest.fixture(scope="module")
def chromium():
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip(f"no Chromium ({', '.join(BROWSERS)})")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found[0], args=FLAGS)
        yield browser
        browser.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


IN_FULL = pytest.param("file, in full", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["http", "file", IN_FULL])
def place(request):
    """Where the book is: the pages are the same, so fewer are looked at as files."""
    return request.param


@pytest.fixture(scope="module")
def address(place, book):
    """Where the book is found: on a server of this machine, or as files."""
    if place != "http":
        yield book.as_uri()
        return
    handler = functools.partial(Quiet, directory=book)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@dataclasses.dataclass
class Visit:
    """What the browser did and complained of."""

    requests: list
    errors: list

    @classmethod
    def of(cls, page):
        visit = cls([], [])
        page.on("request", lambda r: visit.requests.append(r.url))
        page.on("requestfailed", lambda r: visit.errors.append(f"failed: {r.url}"))
        page.on("pageerror", lambda e: visit.errors.append(str(e)))
        page.on(
            "response",
            lambda r: r.status >= 400 and visit.errors.append(f"{r.status}: {r.url}"),
        )
        page.on(
            "console",
            lambda m: m.type in ("error", "warning") and visit.errors.append(m.text),
        )
        return visit

    def foreign(self, address):
        own = (address, "data:", "blob:")
        return [url for url in self.requests if not url.startswith(own)]


@pytest.fixture
def page(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


LOOK = """() => ({
  formulas: document.querySelectorAll(".math").length,
  drawn: [...document.querySelectorAll(".math")].filter(
    (m) => m.querySelector("mjx-container svg")).length,
  wrong: [...document.querySelectorAll("[data-mml-node=merror], mjx-merror")].map(
    (m) => m.closest(".math").textContent),
  undefined: [...document.querySelectorAll("[data-mml-node=mtext][fill=red]")].map(
    (m) => m.closest("mjx-container").textContent),
  images: [...document.images].filter((i) => !i.complete || !i.naturalWidth)
    .map((i) => i.src),
})"""
OVERFLOW = """() => Math.max(  // of the page, or of the text inside it
  document.scrollingElement.scrollWidth - innerWidth,
  ...[...document.querySelectorAll(".main, .main .content")].map(
    (box) => box.scrollWidth - box.clientWidth),
)"""


def drawn(page):
    """Wait until MathJax, where the page has it, has drawn; open what is folded."""
    page.wait_for_load_state("load")
    page.evaluate(
        "async () => { await window.MathJax?.startup?.promise?.catch?.(Object) }"
    )
    page.evaluate(
        "document.querySelectorAll('details').forEach((d) => (d.open = true))"
    )


@pytest.fixture(scope="module")
def looks(chromium, book, place, address):
    """Every page looked at: {page: what was found}, at two widths, in every tab.

    As files, the start, and two pages with formulas, at one width.
    """
    widths, pages = sorted(WIDTHS.values()), soups(book)
    if place == "file":
        formulas = [name for name, page in pages.items() if page.select(".math")]
        widths, pages = widths[:1], ["index.html", *formulas[:2]]
    context = chromium.new_context()
    found = {}
    for name in pages:
        tab = context.new_page()
        tab.set_default_timeout(60_000)
        visit = Visit.of(tab)
        tab.set_viewport_size({"width": 1280, "height": 900})
        tab.goto(f"{address}/{name}")
        drawn(tab)
        found[name] = tab.evaluate(LOOK)
        overflow = {}
        for width in widths:
            tab.set_viewport_size({"width": width, "height": 900})
            overflow[width] = tab.evaluate(OVERFLOW)
            tabs = tab.locator(".sd-tab-set").first.locator("> label")
            for label in tabs.all():
                label.click()
                overflow[width, label.inner_text()] = tab.evaluate(OVERFLOW)
        found[name] |= {
            "overflow": {k: v for k, v in overflow.items() if v > 0},
            "foreign": visit.foreign(address),
            "errors": visit.errors,
        }
        tab.close()
    context.close()
    return found


def only(looks, key):
    return {name: found[key] for name, found in looks.items() if found[key]}


def test_every_formula_is_drawn(looks):
    for name, found in looks.items():
        assert (name, found["drawn"]) == (name, found["formulas"])
    assert sum(found["formulas"] for found in looks.values()) >= 5
    assert (only(looks, "wrong"), only(looks, "undefined")) == ({}, {})


def test_no_request_leaves_the_machine(looks):
    assert only(looks, "foreign") == {}


def test_no_error_in_the_console(looks):
    assert only(looks, "errors") == {}


def test_every_picture_is_shown(looks):
    assert only(looks, "images") == {}


def test_nothing_is_wider_than_the_screen(looks):
    assert only(looks, "overflow") == {}


def with_tabs(book, place):
    """The pages with at least two tab sets; as files only the first."""
    found = [
        name
        for name, page in soups(book).items()
        if len(page.select(".sd-tab-set > [data-sync-id=jax]")) >= 2
    ]
    return found[: 1 if place == "file" else None]


def chosen(page):
    """The label of the open tab of every tab set that has JAX."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".sd-tab-set")]
          .filter((set) => set.querySelector(":scope > [data-sync-id=jax]"))
          .map((set) => set.querySelector("input:checked + label").innerText)"""
    )


def test_tabs_switch_together_and_stay_after_a_reload(page, book, place, address):
    names = with_tabs(book, place)
    assert names
    for name in names:
        page.goto(f"{address}/{name}")
        first = chosen(page)
        page.locator(".sd-tab-set > label", has_text="JAX").last.click()
        number = len(first)
        assert number >= 2
        assert chosen(page) == ["JAX"] * number
        assert page.locator(".sd-tab-content:visible").count() >= number
        page.reload()
        assert chosen(page) == ["JAX"] * number
        page.goto(f"{address}/index.html")
        page.goto(f"{address}/{name}")
        assert chosen(page) == ["JAX"] * number
        page.goto(f"{address}/{name}?framework=torch")
        assert set(chosen(page)) <= {"PyTorch", "JAX"}
        assert chosen(page)[0] == "PyTorch"
        page.locator(".sd-tab-set > label", has_text="JAX").first.click()
        page.reload()
        assert chosen(page) == ["JAX"] * number


def test_a_tab_in_use_stays_where_it_is(page, book, place, address):
    page.set_viewport_size({"width": 1280, "height": 300})
    for name in with_tabs(book, place):
        page.goto(f"{address}/{name}?framework=jax")
        drawn(page)
        page.add_style_tag(content="* { overflow-anchor: none }")  # as in Safari
        tabs = page.locator(".sd-tab-set").nth(1)  # the one above changes its height
        label = tabs.locator("> label", has_text="PyTorch")
        label.scroll_into_view_if_needed()
        before = label.bounding_box()["y"]
        label.click()
        assert abs(label.bounding_box()["y"] - before) < 2


def test_search_finds_a_word(page, book, address):
    visit = Visit.of(page)
    page.goto(f"{address}/index.html")
    search = page.locator("input[name=q]:visible")
    search.fill("variance" if (book / "01_mathematics.html").exists() else "zebras")
    search.press("Enter")
    page.wait_for_selector("#search-results li a")
    page.wait_for_function(
        "document.querySelector('#search-results h2').innerText == 'Search Results'"
    )
    page.wait_for_load_state("networkidle")  # excerpts of the hits
    hits = page.locator("#search-results li a")
    assert hits.count() >= 1
    hits.first.click()
    page.wait_for_selector("article h1")
    assert "search.html" not in page.url
    assert (visit.errors, visit.foreign(address)) == ([], [])


def test_dark_mode_changes_the_background_and_is_kept(page, address):
    def background():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    def theme():
        return page.evaluate("document.body.dataset.theme")

    page.goto(f"{address}/index.html")
    seen = {}
    for _ in range(3):
        page.locator(".theme-toggle:visible").click()
        seen[theme()] = background()
    assert set(seen) == {"auto", "light", "dark"}
    assert sum(json.loads(seen["dark"].replace("rgb(", "[").replace(")", "]"))) < 150
    assert sum(json.loads(seen["light"].replace("rgb(", "[").replace(")", "]"))) > 600
    while theme() != "dark":
        page.locator(".theme-toggle:visible").click()
    page.reload()
    assert background() == seen["dark"]


def test_a_script_in_an_output_runs(page, small_book):
    page.goto((small_book / "01_formulas.html").as_uri())
    assert page.locator("#live").inner_text() == "42"
