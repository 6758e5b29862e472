"""Names of packages that are imported when they are first used: what type checkers read is what
there is, and settings load no PyTorch."""

import ast
import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import dfal

PACKAGES = sorted(
    ".".join(path.parent.relative_to(Path(dfal.__file__).parents[1]).parts)
    for path in Path(dfal.__file__).parent.rglob("__init__.py")
    if "lazy_names(" in path.read_text(encoding="utf-8")
)


def test_the_packages_are_found() -> None:
    assert {"dfal", "dfal.attacks", "dfal.models"} <= set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_read_what_is_imported_lazily(package: str) -> None:
    module = importlib.import_module(package)
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    (choice,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        (node.module, alias.name)
        for node in choice.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    (call,) = (
        node
        for node in ast.walk(choice)
        if isinstance(node, ast.Call) and "lazy_names" in ast.dump(node.func)
    )
    names = {
        (module, name)
        for module, some in ast.literal_eval(call.args[1]).items()
        for name in some.split()
    }
    modules = {
        (package, keyword)
        for node in call.keywords
        for keyword in ast.literal_eval(node.value).split()
    }
    assert names <= typed <= names | modules
    for name in (*module.__all__, *(name for _, name in names | modules)):
        assert getattr(module, name) is not None
        assert name in dir(module)
    assert not [name for _, name in names if find_spec(f"{package}.{name}")]


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'dfal' has no attribute 'DFLA'"):
        dfal.DFLA  # type: ignore[attr-defined]  # noqa: B018


def test_former_names_stay() -> None:
    assert dfal.seed_for is dfal.derive_seed


SETTINGS = """
import sys
from dfal.experiments.trial_settings import TrialSettings
from dfal.labelling import Settings
from dfal.nn.training_settings import Training
from dfal.reproduce import ARTEFACTS, PRESETS
from dfal.reproduce.settings import PresetSettings
TrialSettings(), Settings(), Training(), list(ARTEFACTS), list(PRESETS)
print({"torch", "numpy", "scipy", "sklearn", "matplotlib", "sqlite3"} & sys.modules.keys())
"""


def test_settings_are_read_and_checked_without_pytorch() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SETTINGS], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "set()"


WORKER = """
import sys
import dfal.experiments.runner, dfal.experiments.executors.local
import dfal.labelling.learning.training_process, dfal.labelling.learning.trainer
print({"scipy", "sklearn", "matplotlib", "pandas", "ray"} & sys.modules.keys())
"""


def test_a_process_that_trains_starts_without_what_few_trainings_need() -> None:
    ran = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
