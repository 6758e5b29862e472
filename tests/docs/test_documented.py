"""What has a name stands in the docs, and what the docs name is there: registered names, commands,
options, public names, modules, files and links.
"""

import importlib
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import dfal
from dfal.cli import cli
from dfal.registry import Registry

ROOT = Path(__file__).parents[2]
DOCS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PAGES = sorted({*DOCS, *ROOT.glob("[A-Z]*.md"), *(ROOT / "benchmarks").glob("*.md")})
MADE = ROOT / "docs" / "command-line.md"
"""The page that is made from the commands."""
REFERENCE = {MADE, ROOT / "docs" / "api.md", ROOT / "docs" / "http-api.md"}
"""Pages that are made from the code, and so are no proof that somebody described a thing."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fences(page: Path) -> Iterator[tuple[str, str]]:
    """Yield language and text of each fenced block."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```", page.read_text(), re.M | re.S):
        yield match[1], match[2]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


def spans(page: Path) -> list[str]:
    """Return what stands between backticks in a page's prose."""
    return [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", prose(page))]


def code() -> str:
    """Return all code of the docs: spans and fenced blocks."""
    texts = [text for page in DOCS if page not in REFERENCE for _, text in fences(page)]
    return "\n".join(
        texts + [span for page in DOCS if page not in REFERENCE for span in spans(page)]
    )


def is_named(name: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


def registries() -> Iterator[Registry[object]]:
    """Yield every registry of the package."""
    source, seen = ROOT / "src", set()
    for file in sorted(source.rglob("*.py")):
        if "Registry(" in file.read_text() and file.name != "registry.py":
            name = ".".join(file.relative_to(source).with_suffix("").parts)
            for value in vars(importlib.import_module(name.removesuffix(".__init__"))).values():
                if isinstance(value, Registry) and id(value) not in seen:
                    seen.add(id(value))
                    yield value


def commands() -> dict[str, click.Command]:
    context = click.Context(cli)
    named = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in named.items() if command is not None}


def lines_of_commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each use of dfal in shell blocks and spans of a page."""
    texts = [text for language, text in fences(page) if language == "sh"]
    for line in "\n".join(texts).replace("\\\n", " ").splitlines() + spans(page):
        if line.startswith("dfal "):
            words = shlex.split(line.replace("'", "").replace("[", "").replace("]", ""), True)
            yield words[: words.index("|")] if "|" in words else words


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_every_registered_name_stands_in_the_docs() -> None:
    named = set(re.findall(r"(?<![^\s`])[\w+-]+(?![^\s`])", code()))
    known = list(registries())
    assert {"strategy", "attack", "network", "data set"} <= {registry.kind for registry in known}
    missing = [
        f"{registry.kind} {name}" for registry in known for name in registry if name not in named
    ]
    assert missing == []


def test_every_public_name_stands_in_the_docs() -> None:
    text = code()
    assert [name for name in dfal.__all__ if not is_named(name, text)] == []


def test_the_page_of_the_command_line_is_that_of_the_code() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "command_line.py"))
    assert MADE.read_text() == made["page"](), "make reference"
    for name, command in commands().items():
        if command.hidden:
            continue
        section = MADE.read_text().split(f"\n## dfal {name}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(is_named(flag, section) for flag in parameter.opts), (name, parameter)


def test_the_page_of_the_http_api_is_that_of_the_code() -> None:
    pytest.importorskip("fastapi", reason="the page is an extra: pip install 'dfal[label]'")
    made = runpy.run_path(str(ROOT / "docs" / "http_api.py"))
    text = (ROOT / "docs" / "http-api.md").read_text()
    assert text == made["page"](), "make reference"
    for path in made["openapi"]()["paths"]:
        assert f" {path}` |" in text


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "CHANGELOG"], ids=name_of)
def test_commands_and_options_in_a_page_exist(page: Path) -> None:
    known = commands()
    for words in lines_of_commands(page):
        options = {word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
        options -= {"-h", "--help"}
        name = next((word for word in words[1:] if not word.startswith("-")), "")
        if name == "" or not name.islower():
            parameters = cli.params
        else:
            assert name in known, " ".join(words)
            parameters = [*known[name].params, *cli.params]
        flags = {flag for p in parameters for flag in (*p.opts, *p.secondary_opts)}
        assert options - flags - {"--version"} == set(), " ".join(words)


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "CHANGELOG"], ids=name_of)
def test_modules_and_files_that_a_page_names_exist(page: Path) -> None:
    for span in spans(page):
        if match := re.fullmatch(r"(dfal(?:\.\w+)+)(?:\(.*\))?", span):
            _resolve(match[1])
        elif page.parent.name == "extending":
            continue  # names files that its reader is to write
        elif re.fullmatch(r"(src|tests|docs/pictures|benchmarks|results|\.\w+)/[\w./-]+", span):
            assert (ROOT / span).exists(), span


def _resolve(dotted: str) -> None:
    module, *rest = dotted.split(".")
    thing = importlib.import_module(module)
    for name in rest:
        module = f"{module}.{name}"
        thing = getattr(thing, name) if hasattr(thing, name) else importlib.import_module(module)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_anchors_of_a_page_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page)) + re.findall(r'src="(.+?)"', prose(page))
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", prose(linked), re.M)
            assert anchor in {slug(heading) for heading in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_line_of_prose_is_longer_than_100_columns(page: Path) -> None:
    unbroken = r"`[^`]*`\S*|!?\[[^\]]*\]\([^)]*\)\S*|\[!\[.*\]\(.*?\)|<[^>]*>( <[^>]*>)*"
    long = [
        line
        for line in prose(page).splitlines()
        if len(line) > 100
        and not line.startswith("|")
        and " " in re.sub(unbroken, "X", re.sub(r"^\s*(- |\d+\. )?", "", line))
    ]
    assert long == []
