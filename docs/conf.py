"""Settings of the site: `make docs` builds it with Sphinx from the pages of this folder.

The pages are plain Markdown, which reads well without the site too. So the sidebar is made from the
links of the start page, and docstrings, which are no reStructuredText, are escaped before they are
read as such.
"""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import dfal

sys.path.insert(0, str(Path(__file__).parent))
import notebooks

project = "dfal"
author = "The dfal authors"
copyright = "the dfal authors, MIT licence"
version = release = dfal.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
language = "en"

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "html_image"]

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
default_role = "literal"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"dfal {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

SIDEBARS = ("index", "extending/README")
"""Pages whose links make the sidebar: each heading is a caption, each link below it an entry."""

INLINE_SECTIONS = "Source|Cost|Memory"
"""Words that begin a paragraph `Word: text` of a docstring."""


def toctrees(text: str) -> str:
    r"""Return the sidebar that the links of a page make, as directives of Sphinx.

    >>> print(toctrees("# T\n\n## Start\n\n- [Label](labelling.md), [paper](https://x.org)"))
    <BLANKLINE>
    ```{toctree}
    :hidden:
    :caption: Start
    <BLANKLINE>
    labelling.md
    ```
    """
    blocks, seen = [], set()
    for part in re.split(r"^## ", text, flags=re.MULTILINE):
        caption, _, body = part.partition("\n")
        pages = dict.fromkeys(re.findall(r"\]\(([\w./-]+\.md)\)", body))
        if new := [page for page in pages if page not in seen and ".." not in page]:
            seen.update(new)
            title = "" if caption.startswith("#") else f":caption: {caption}\n"
            blocks.append("\n```{toctree}\n:hidden:\n" + title + "\n" + "\n".join(new) + "\n```")
    return "\n".join(blocks)


def read(app: Any, docname: str, source: list[str]) -> None:
    """Append the sidebar to the pages that make it, and drop what only doctest needs.

    That is the empty line at the end of an example.
    """
    source[0] = re.sub(r"\n\n```$", "\n```", source[0], flags=re.MULTILINE)
    if docname in SIDEBARS:
        source[0] += toctrees(source[0])


def escape(line: str) -> str:
    r"""Return a line of a docstring as reStructuredText: code between backticks, nothing else.

    >>> print(escape("the norm ‖w‖_q of |w_k| * `x_i`"))
    the norm ‖w‖\_q of \|w\_k\| \* ``x_i``
    """
    parts = line.split("`")
    for index in range(0, len(parts), 2):
        parts[index] = re.sub(r"([\\*_|])", r"\\\1", parts[index])
    return "``".join(parts)


def escape_docstring(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Escape a docstring, and set off its sections of one paragraph.

    The fields of a dataclass are shown as the parameters that they are.
    """
    if what == "data":  # autodoc takes the docstring of its type
        from sphinx.pycode import ModuleAnalyzer  # the doctests of this file run without Sphinx

        lines[:] = ModuleAnalyzer.for_module("dfal.query").find_attr_docs()["", name.split(".")[1]]
    # A property's text after an empty line is never read as "type: text".
    escaped = [""] if what == "property" else []
    for line in lines:
        if line == "Attributes:" and dataclasses.is_dataclass(obj):
            escaped.append("Args:")
        elif match := re.match(rf"({INLINE_SECTIONS}): (.*)", line):
            escaped += ["", f"**{match[1]}:** {escape(match[2])}"]
        elif line.lstrip().startswith((">>>", "...")):
            escaped.append(line)
        elif match := re.match(r"(    \w+): (.*)", line):  # a field or an argument
            escaped.append(f"{match[1]}: {escape(match[2])}")
        else:
            escaped.append(escape(line))
    lines[:] = escaped


def mend(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Mend what a screen reader or a keyboard cannot use in the HTML of Sphinx and furo.

    Captions of the sidebar are headings without a level, wide tables and code scroll by mouse only,
    and the parameters of a signature are a list of definitions without terms.
    """
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace(
        'role="heading"', 'role="heading" aria-level="2"'
    )
    body = context.get("body", "").replace(
        '<div class="table-wrapper', '<div tabindex="0" class="table-wrapper'
    )
    body = body.replace('<div class="highlight"><pre>', '<div class="highlight"><pre tabindex="0">')
    body = re.sub(r"<dl>(\s*<dd>)", r'<span class="sig-params">\1', body)
    body = re.sub(r"<dd>(<em class=\"sig-param.*)</dd>", r'<span class="sig-line">\1</span>', body)
    body = re.sub(r"(sig-line.*</span>\s*)</dl>", r"\1</span>", body)
    if pagename in notebooks.pages():
        link = f'<a href="notebooks/{pagename}.ipynb" download>this page as a notebook</a>'
        body = body.replace("</h1>", f"</h1>\n<p>Download {link}.</p>", 1)
    context["body"] = body


def write_notebooks(app: Any, exception: Exception | None) -> None:
    """Write the notebooks of the pages into the finished site."""
    if exception is None and app.builder.format == "html":
        notebooks.write(Path(app.outdir) / "notebooks")


def setup(app: Any) -> None:
    """Register what is above with Sphinx."""
    app.connect("html-page-context", mend, priority=900)
    app.connect("source-read", read)
    app.connect("build-finished", write_notebooks)
    app.connect("autodoc-process-docstring", escape_docstring, priority=100)
