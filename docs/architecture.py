"""Draw the packages of dfal and their imports: docs/pictures/architecture.svg.

    python docs/architecture.py            # or: make picture
    python docs/architecture.py --check    # exit status 1 where the picture is not that of the code

Packages stand in the order of the layers in pyproject.toml, so that every arrow points down. What
is said of each comes from the table in docs/architecture.md. An arrow is left out where a longer
way of arrows says the same; all imports of a package stand in its tooltip. Also printed: rooms
(modules and packages at the top level), arrows between them, and circles among all modules, with
imports for type checking counted.
"""

import argparse
import re
import sys
import tomllib
from dataclasses import dataclass
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "architecture.svg"

ROW_HEIGHT, LAYER_GAP, BOX_HEIGHT, BOX_WIDTH = 24, 8, 20, 120
"""Of the picture, in pixels."""
ARC_STEP, ARC_SPACE = 13, 250
"""How far an arc reaches to the left for each pixel row it spans, and at most, in pixels."""
WIDTH = 900
"""Of the whole picture, in pixels."""

STYLE = """
.paper { fill: #ffffff } .layer { fill: #f2f4f7 } .box { fill: #dbe7f6; stroke: #5b7da8 }
.name { fill: #10243e; font-weight: 600 } .about { fill: #3b4654 } .note { fill: #5a6572 }
.arrow { fill: none; stroke: #5b7da8; stroke-width: 1.2 } .head { fill: #5b7da8 }
@media (prefers-color-scheme: dark) {
.paper { fill: #14181d } .layer { fill: #1c222a } .box { fill: #22364e; stroke: #7fa6d6 }
.name { fill: #eaf2fc } .about { fill: #c6ced8 } .note { fill: #9aa5b1 }
.arrow { stroke: #7fa6d6 } .head { fill: #7fa6d6 } }
""".strip()


@dataclass(frozen=True)
class Architecture:
    """The packages of dfal and what imports what.

    Attributes:
        layers: names of packages, the uppermost layer first.
        imports: by package, the packages that it imports at run time.
        circles: sets of modules that import each other, imports for type checking counted.
    """

    layers: list[list[str]]
    imports: dict[str, set[str]]
    circles: list[set[str]]

    @property
    def arrows(self) -> list[tuple[str, str]]:
        """Return all pairs of a package and one that it imports."""
        return sorted((a, b) for a, imported in self.imports.items() for b in imported)

    @property
    def drawn(self) -> list[tuple[str, str]]:
        """Return the arrows without those that a longer way of arrows implies."""
        return [
            (a, b)
            for a, b in self.arrows
            if not any(b in self._below(c) for c in self.imports[a] - {b})
        ]

    def _below(self, package: str) -> set[str]:
        below: set[str] = set()
        for imported in self.imports[package]:
            below |= {imported} | self._below(imported)
        return below


def _top(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of modules that reach each other by imports."""
    reached = {module: {module} for module in imports}
    changed = True
    while changed:
        changed = False
        for module, imported in imports.items():
            new = reached[module].union(*(reached[m] for m in imported))
            changed |= new != reached[module]
            reached[module] = new
    found = {frozenset(m for m in reached[module] if module in reached[m]) for module in imports}
    return sorted((set(circle) for circle in found if len(circle) > 1), key=sorted)


def read() -> Architecture:
    """Read packages, layers and imports from the code and from pyproject.toml."""
    run_time = grimp.build_graph("dfal", exclude_type_checking_imports=True, cache_dir=None)
    everything = grimp.build_graph("dfal", cache_dir=None)
    names = {_top(module) for module in run_time.modules} - {"", "__main__"}
    imports: dict[str, set[str]] = {name: set() for name in names}
    for module in run_time.modules:
        for imported in run_time.find_modules_directly_imported_by(module):
            a, b = _top(module), _top(imported)
            if a in names and b in names and a != b:
                imports[a].add(b)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [re.split(r"\s*[|:]\s*", layer) for layer in contracts["contracts"][0]["layers"]]
    return Architecture(
        layers=[sorted(names.intersection(layer)) for layer in layers if names & set(layer)],
        imports=imports,
        circles=circles(
            {m: everything.find_modules_directly_imported_by(m) for m in everything.modules}
        ),
    )


def abouts() -> dict[str, str]:
    """Return what docs/architecture.md says of each package and module at the top level."""
    rows = re.findall(
        r"^\| `([a-z_0-9]+)(?:/|\.py)` \| (.+?) \|",
        (ROOT / "docs" / "architecture.md").read_text(),
        re.MULTILINE,
    )
    return {name: about.replace("`", "") for name, about in rows}


def draw(architecture: Architecture) -> str:
    """Return the picture as SVG."""
    about, middle, top = abouts(), {}, 12
    bands, boxes = [], []
    left = ARC_SPACE + 20
    for layer in architecture.layers:
        height = ROW_HEIGHT * len(layer)
        bands.append(
            f'<rect class="layer" x="{left - 8}" y="{top - 2}" width="{WIDTH - left}"'
            f' height="{height}" rx="4"/>'
        )
        for name in layer:
            y = middle[name] = top + BOX_HEIGHT // 2
            imported = ", ".join(sorted(architecture.imports[name])) or "nothing"
            boxes += [
                f"<g><title>{name} imports {imported}</title>",
                f'<rect class="box" x="{left}" y="{y - BOX_HEIGHT // 2}" width="{BOX_WIDTH}"'
                f' height="{BOX_HEIGHT}" rx="4"/>',
                f'<text class="name" x="{left + 8}" y="{y + 4}">{name}</text>',
                f'<text class="about" x="{left + BOX_WIDTH + 12}" y="{y + 4}">'
                f"{escape(about.get(name, ''))}</text></g>",
            ]
            top += ROW_HEIGHT
        top += LAYER_GAP
    arrows = []
    for a, b in architecture.drawn:
        start, end = middle[a] + 4, middle[b] - 4
        reach = min(ARC_SPACE, 10 + (end - start) * ARC_STEP // ROW_HEIGHT)
        pull = left - reach * 4 // 3
        arrows.append(
            f'<path class="arrow" d="M{left},{start} C{pull},{start} {pull},{end}'
            f' {left - 6},{end}"/><path class="head" d="M{left},{end} l-8,-3.5 v7 z"/>'
        )
    note = "An arrow: imports. Left out where a longer way of arrows says the same."
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 22}"'
            f' width="{WIDTH}" height="{top + 22}" font-family="system-ui, sans-serif"'
            ' font-size="12.5">',
            "<title>The packages of dfal and their imports</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{WIDTH}" height="{top + 22}"/>',
            *bands,
            *arrows,
            *boxes,
            f'<text class="note" x="{left}" y="{top + 10}">{note}</text>',
            "</svg>\n",
        ]
    )


def main() -> None:
    """Write the picture, or say whether it is that of the code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where it is stale")
    check = parser.parse_args().check
    architecture = read()
    picture = draw(architecture)
    print(
        f"{len(architecture.imports)} rooms, {len(architecture.arrows)} arrows"
        f" ({len(architecture.drawn)} drawn), {len(architecture.circles)} circles"
    )
    for circle in architecture.circles:
        print("circle:", ", ".join(sorted(circle)))
    if not check:
        PICTURE.write_text(picture)
    elif picture != PICTURE.read_text():
        sys.exit("docs/pictures/architecture.svg is not that of the code: make picture")


if __name__ == "__main__":
    main()
