"""Names of a package that are imported when they are first used.

So `dfal --help` and `import dfal` load no PyTorch.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, names: Mapping[str, str], modules: str = ""
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package (PEP 562).

    Type checkers and editors read the same names from imports under `TYPE_CHECKING`; a test holds
    both lists against each other. No name may be that of a module of the package: importing the
    module would replace it.

    >>> find, listed = lazy_names("dfal", {"dfal.errors": "DfalError first_line"})
    >>> find("DfalError").__name__, "first_line" in listed()
    ('DfalError', True)

    Args:
        package: the `__name__` of the package.
        names: module → the public names that it defines, with spaces.
        modules: modules of the package that are imported when they are first used, with spaces.
    """
    module_of = {name: module for module, some in names.items() for name in some.split()}
    submodules = modules.split()

    def find(name: str) -> Any:
        if name in submodules:
            return importlib.import_module(f"{package}.{name}")
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(module_of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def names_of_package() -> list[str]:
        return sorted({*vars(sys.modules[package]), *module_of, *submodules})

    return find, names_of_package
