"""The package, its page, its release and how it is installed agree with each other."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

import dfal

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = ROOT / ".github" / "workflows"


def workflow(name: str) -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text())


def page_of_the_package() -> str:
    """Return the long description, as hatch-fancy-pypi-readme makes it."""
    made = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = ""
    for fragment in made["fragments"]:
        part = (ROOT / fragment["path"]).read_text() if "path" in fragment else fragment["text"]
        if start := fragment.get("start-at"):
            part = part[part.index(start) :]
        if end := fragment.get("end-before"):
            part = part[: part.index(end)]
        text += part
    for change in made["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    return text


def test_the_page_of_the_package_leads_to_no_file_of_the_repository() -> None:
    text = page_of_the_package()
    targets = re.findall(r"\]\(([^)\s]+)", text)
    assert len(targets) > 4
    assert [target for target in targets if not target.startswith("https://")] == []
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert headings == re.findall(r"^## (.+)$", (ROOT / "README.md").read_text(), re.M)
    assert "!()" not in text
    assert "[]" not in text
    assert "over five seeds." in text, "a link alone in brackets goes with them"
    assert "MIT licence." in text


def test_nothing_tells_anybody_to_install_by_a_name_that_is_not_there() -> None:
    """While the pages say so, only what is installed already is named: its extras are added."""
    for name in ("README.md", "docs/index.md", "docs/installing.md", "docs/faq.md"):
        text = (ROOT / name).read_text()
        assert "not on PyPI yet" in text, "on one line, where the release looks for it"
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        found = re.findall(r"install\b[^\n#|]*?['\" ]dfal\b[^\n`]*", page.read_text())
        allowed = ["install 'dfal[onnx]'"] if page.name == "installing.md" else []
        assert found == allowed, page.name


def release_check(folder: Path, tag: str, job: str = "build") -> "subprocess.CompletedProcess[str]":
    steps = workflow("release")["jobs"][job]["steps"]
    (step,) = [step for step in steps if step.get("name", "").startswith("Check that")]
    return subprocess.run(
        ["bash", "-e", "-c", step["run"]],
        cwd=folder,
        env={"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_release_needs_tag_and_changelog_of_this_version(tmp_path: Path) -> None:
    (tmp_path / "src/dfal").mkdir(parents=True)
    source = (ROOT / "src" / "dfal" / "__init__.py").read_text()
    (tmp_path / "src/dfal/__init__.py").write_text(source)
    changes = tmp_path / "CHANGELOG.md"
    changes.write_text("## [Unreleased]\n")
    tag = f"v{dfal.__version__}"
    assert "has no heading" in release_check(tmp_path, tag).stdout
    changes.write_text(f"## [{dfal.__version__}] – 2026-12-01\n")
    assert (release_check(tmp_path, tag).returncode, release_check(tmp_path, tag).stdout) == (0, "")
    wrong = release_check(tmp_path, "v9.9")
    assert wrong.returncode == 1
    assert wrong.stdout == f"the tag is v9.9, the version {dfal.__version__}\n"


def test_nothing_is_published_while_a_page_says_that_there_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("pip install it\n")
    (tmp_path / "docs/index.md").write_text("pip install it\n")
    assert release_check(tmp_path, "v1", "publish").returncode == 0
    (tmp_path / "docs/index.md").write_text("dfal is not on PyPI yet\n")
    refused = release_check(tmp_path, "v1", "publish")
    assert (refused.returncode, refused.stdout.count("not on PyPI")) == (1, 1)
    assert workflow("release")["jobs"]["publish"]["if"] == "vars.ON_PYPI == 'true'"


def test_the_changelog_has_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert dfal.__version__ in headings[:2], "below what is not released, if anything"


def test_a_release_is_published_by_trust_alone_and_after_all_of_ci() -> None:
    release = workflow("release")
    publish = release["jobs"]["publish"]
    assert set(publish["needs"]) == {"ci", "build"}
    assert release["jobs"]["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert "workflow_call" in workflow("ci")[True], "YAML reads `on` as true"
    assert release["permissions"] == {"contents": "read"}
    assert publish["permissions"] == {"contents": "read", "id-token": "write"}
    assert [name for name, job in release["jobs"].items() if "permissions" in job] == ["publish"]
    text = (WORKFLOWS / "release.yml").read_text()
    assert not re.search(r"secrets\.|password:|api-token", text)
    assert release[True] == {"push": {"tags": ["v*"]}}


def test_the_conda_file_has_the_lowest_versions_of_the_package() -> None:
    text = (ROOT / "environment.yml").read_text()
    known = dict(need.split(">=") for need in PROJECT["project"]["dependencies"])
    conda = {"pytorch-cpu": "torch", "matplotlib-base": "matplotlib"}
    named = re.findall(r"^  - ([\w-]+)>=([\d.]+)", text, re.M)
    assert len(named) > 4
    assert {conda.get(name, name): lowest for name, lowest in named}.items() <= known.items()


def test_the_container_installs_as_the_docs_say() -> None:
    text = (ROOT / "Containerfile").read_text().replace("--no-cache-dir ", "")
    block = re.search(r"```sh\n(.*?)```", (ROOT / "docs" / "installing.md").read_text(), re.S)
    assert block is not None
    first, second = block[1].splitlines()
    assert f"RUN {first}\n" in text
    assert f"RUN {second}\n".replace("'.[", "'/dfal[") in text
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (.+) /", text, re.M)
    assert {f"!{name}" for line in copied for name in line.split()} == set(ignored[1:])


def test_the_page_on_installing_has_every_extra() -> None:
    page = (ROOT / "docs" / "installing.md").read_text()
    rows = re.findall(r"^\| (`[^|]+) \|", page[page.index("## Extras") :], re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == set(PROJECT["project"]["optional-dependencies"])


def test_groups_that_conflict_exist() -> None:
    groups, extras = PROJECT["dependency-groups"], PROJECT["project"]["optional-dependencies"]
    for pair in PROJECT["tool"]["uv"]["conflicts"]:
        assert len(pair) == 2
        assert all(
            one["group"] in groups if "group" in one else one["extra"] in extras for one in pair
        )
