"""Compile `src/dfal/nn/kernels.c` where there is a C compiler; without one, dfal works as well."""

import os
import platform
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "src/dfal/nn/kernels.c"
LIBRARY = "src/dfal/nn/kernels.bin"


class Kernels(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the compiled code to a wheel, which is for this platform then."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "wheel" and _compiled(Path(self.root)):
            build_data["artifacts"].append(LIBRARY)
            build_data["pure_python"] = False
            system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{system}"


def _compiled(root: Path) -> bool:
    """Compile, and return whether that could be done."""
    if os.environ.get("DFAL_KERNELS") == "0":
        return False
    # In vectors as they are written: GCC 12 fails where it is to find more.
    options = ["-O3", "-std=gnu11", "-fno-tree-vectorize", "-fno-tree-slp-vectorize"]
    options += ["-ffp-contract=fast", "-shared", "-fPIC"]
    if platform.machine().lower() in ("x86_64", "amd64"):
        options += ["-mavx2", "-mfma"]
    command = [os.environ.get("CC", "cc"), *options, "-o", LIBRARY, SOURCE]
    try:
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"dfal is installed without compiled kernels: {error}")
        return False
    return True
