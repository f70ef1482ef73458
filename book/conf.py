"""Sphinx's settings of the book.  `python book/build.py` builds it."""

import pathlib
import sys

from docutils import nodes

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

project = "Batch normalization from scratch"
extensions = ["myst_nb", "sphinx_design", "sphinx.ext.mathjax", "tabs"]
exclude_patterns = ["_files"]
nitpicky = True
nitpick_ignore = []

# Notebooks: as they were executed.
nb_execution_mode = "off"
nb_output_stderr = "remove"
nb_merge_streams = True
nb_render_markdown_format = "myst"
nb_ipywidgets_js = {}  # it would be fetched from a content network
myst_enable_extensions = ["amsmath", "dollarmath", "html_image", "strikethrough"]
# Notebooks are plain Markdown: a line that begins with % is text, not a comment.
myst_disable_syntax = ["myst_line_comment", "myst_role", "myst_target"]
myst_dmath_double_inline = True  # $$ without empty lines around it
myst_heading_anchors = 4
myst_url_schemes = {
    "http": None,
    "https": None,
    "mailto": None,
    "framework": None,  # of pages.py: a page, opened with the tabs of a framework
}

# Formulas: MathJax 3.2.2 in one file, numbers by \tag.
mathjax_path = "mathjax/tex-svg-full.js"
mathjax3_config = {"options": {"enableMenu": False}, "svg": {"fontCache": "global"}}

# Looks.
html_theme = "furo"
html_title = project
html_static_path = ["_static"]
templates_path = ["_templates"]
html_favicon = "_static/favicon.svg"
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_use_index = False
html_domain_indices = False
html_permalinks_icon = "#"
pygments_style = "xcode"
pygments_dark_style = "github-dark"
html_theme_options = {
    "top_of_page_buttons": [],
    "light_css_variables": {
        "color-brand-primary": "#00579c",
        "color-brand-content": "#00579c",
    },
    "dark_css_variables": {
        "color-brand-primary": "#6cb6f0",
        "color-brand-content": "#6cb6f0",
    },
}


def mend(app, document):
    for node in document.findall(nodes.math_block):
        node["classes"].append("amsmath")  # or Sphinx would split it at its line ends
    for node in document.findall(nodes.reference):
        if "refuri" in node:
            node["refuri"] = node["refuri"].removeprefix("framework:")


def setup(app):
    app.connect("doctree-read", mend)
