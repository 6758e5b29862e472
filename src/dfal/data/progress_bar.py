"""The progress bar of what takes long: on standard error, and without widgets in a notebook."""

from rich.console import Console
from rich.progress import Progress, ProgressColumn


def progress_bar(*columns: ProgressColumn) -> Progress:
    """Return a progress bar that leaves nothing behind, least of all in a command's output.

    Args:
        columns: what a line of it shows; by default description, bar, share and time left.
    """
    # In Jupyter, rich would warn on standard output where ipywidgets is not installed.
    return Progress(*columns, console=Console(stderr=True, force_jupyter=False), transient=True)
