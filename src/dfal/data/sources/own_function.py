"""Data sets of the user's own, as package.module:function."""

from typing import Any

from dfal.data.sources import opening
from dfal.data.sources.addresses import is_function
from dfal.data.sources.base import Source
from dfal.errors import DfalError
from dfal.plugins import describe_exception, load_object


def recognises(data: Any) -> bool:
    """Return whether this is the name of a function."""
    return isinstance(data, str) and is_function(data)


def open_source(data: Any) -> Source:
    """Call the function without arguments and open what it returns, with transforms of its own.

    Raises:
        DfalError: where it cannot be found, fails, or returns nothing that can be opened.
    """
    make = load_object("data set", data)
    try:
        made = make()
    except DfalError:
        raise
    except Exception as error:  # it is the user's code, which may raise anything
        raise DfalError(f"the data set {data} fails ({describe_exception(error)})") from error
    return opening.open_source(made)
