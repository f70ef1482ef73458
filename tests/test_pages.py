"""Pages: what a template gets is escaped, and what it lacks is an error."""

import jinja2
import pytest
from markupsafe import Markup

from bn_from_scratch.presentation import pages

TEMPLATES = pages.ENVIRONMENT.list_templates()


@pytest.fixture
def given(monkeypatch):
    """Fill in a template that is given as text."""

    def fill(text, **parts):
        loader = jinja2.DictLoader({"page.html": text})
        monkeypatch.setattr(pages.ENVIRONMENT, "loader", loader)
        monkeypatch.setattr(pages.ENVIRONMENT, "cache", {})
        return pages.fill("page.html", **parts)

    return fill


def source(name):
    return pages.ENVIRONMENT.loader.get_source(pages.ENVIRONMENT, name)[0]


def test_a_name_that_nobody_gives_is_an_error(given):
    with pytest.raises(jinja2.UndefinedError, match=r"^'model' is undefined$"):
        given("{{ model }}")


def test_values_are_escaped_and_drawings_are_not(given):
    page = given('<p id="{{ a }}">{{ a }}{{ b }}</p>', a="'\"<&", b=Markup("<svg>"))
    assert page == '<p id="&#39;&#34;&lt;&amp;">&#39;&#34;&lt;&amp;<svg></p>'


def test_data_do_not_leave_their_script(given):
    page = given("<script>{{ a | tojson }}</script>", a={"b": ["</script>", 1], "a": 2})
    assert page == (r'<script>{"b":["\u003c/script\u003e",1],"a":2}</script>')


def test_a_page_that_cannot_be_filled_in_leaves_the_old_one(tmp_path):
    path = tmp_path / "health.html"
    path.write_text("old")
    with pytest.raises(jinja2.UndefinedError, match=r"^'model' is undefined$"):
        pages.write("health.html", path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_escapes_and_asks_for_nothing(name):
    text = source(name)
    pages.ENVIRONMENT.parse(text)
    for forbidden in ("safe", "autoescape", "://", "@import", "url(", "src=", "<link"):
        assert forbidden not in text


def test_every_template_is_found():
    assert {"base.html", "training.html", "health.html"} <= set(TEMPLATES)
