"""Settings of the documentation site, for Sphinx: ``make docs``."""

import importlib.metadata

project = "hpo"
release = version = importlib.metadata.version("hpo")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"hpo {release}"
exclude_patterns = ["_build"]

myst_heading_anchors = 3
napoleon_google_docstring = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
# Docstrings write code between single backticks.
default_role = "code"


def setup(app):
    """Lead from the pages to the one file above them that is a page, too."""

    def read(_app, _page, text):
        text[0] = text[0].replace("](../CONTRIBUTING.md)", "](contributing.md)")

    app.connect("source-read", read)
