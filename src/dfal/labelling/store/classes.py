"""Find, add and rename the classes of a store."""

from dfal.data.path_names import nfc
from dfal.labelling.names import class_name, shown
from dfal.labelling.store.checks import ConflictError, NotFoundError, is_whole_number
from dfal.labelling.store.event_log import Transaction
from dfal.labelling.store.state import State
from dfal.query import DECLINED


def class_number(state: State, label: int | str) -> int:
    """Return the number of a class that is given by name or number; DECLINED stays.

    Raises:
        NotFoundError: for a class that is not there.
    """
    classes = state.classes
    if isinstance(label, str):
        label = next((name for name in classes if nfc(name) == nfc(label)), label)
        if label not in classes:
            raise NotFoundError(
                f"there is no class {shown(label)}: add it first"
                + f", or give one of {', '.join(classes[:20])}"
            )
        return classes.index(label)
    if not is_whole_number(label) or (label != DECLINED and not 0 <= label < len(classes)):
        raise NotFoundError(
            f"there is no class {label!r}: there are {len(classes)}, numbered from 0; DECLINED"
            f" is {DECLINED}"
        )
    return int(label)


def add_class(transaction: Transaction, state: State, name: str, person: str) -> None:
    """Add a class.

    Raises:
        ConflictError: for a name that another class had before it was renamed.
    """
    tidy = class_name(name, state.classes)
    if (number := state.former.get(tidy)) is not None:
        raise ConflictError(
            f"{tidy!r} was renamed to {state.classes[number]!r}: give that class its name"
            " back, or take another"
        )
    transaction.add_class(tidy, person)


def rename_class(
    transaction: Transaction, state: State, label: int | str, name: str, person: str
) -> None:
    """Give a class, by name or number, another name.

    Raises:
        NotFoundError: for a class that is not there.
    """
    number = class_number(state, label)
    if number == DECLINED:
        raise NotFoundError("DECLINED is not a class and cannot be renamed")
    others = [other for place, other in enumerate(state.classes) if place != number]
    transaction.rename_class(number, class_name(name, others), person)
