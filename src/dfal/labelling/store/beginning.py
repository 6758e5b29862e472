"""Begin a store, or resume one with other settings, new images and new classes."""

from collections.abc import Mapping, Sequence

from dfal.errors import DfalError
from dfal.labelling.settings import Settings
from dfal.labelling.store.classes import add_class
from dfal.labelling.store.event_log import EventLog
from dfal.labelling.store.state import State
from dfal.query import UNKNOWN


def begin(
    log: EventLog,
    settings: Settings,
    paths: Sequence[str],
    names: Sequence[str],
    prelabelled: Mapping[str, str],
    *,
    person: str,
) -> None:
    """Add to a store what it lacks of settings, classes, images and their labels.

    Args:
        log: the open store.
        settings: those that hold from now on.
        paths: of the images.
        names: of the classes.
        prelabelled: path → class, for images that have a label already.
        person: who adds the classes.

    Raises:
        DfalError: for another seed or hold-out than the store's.
    """
    with log.adding() as transaction:
        state = log.state
        for name in ("seed", "holdout") if not log.is_new else ():
            stored = getattr(state.settings, name)
            if getattr(settings, name) != stored:
                raise DfalError(
                    f"{log.path} was begun with {name} = {stored}, which"
                    " cannot be changed: leave it out, or name another --store"
                )
        if log.is_new or settings != state.settings:
            transaction.add_settings(settings)
        for name in names:
            if name not in state.classes and name not in state.former:
                add_class(transaction, state, name, person)
        numbers = state.former | {name: number for number, name in enumerate(state.classes)}
        index = {path: image for image, path in enumerate(state.paths)}
        transaction.add_prelabels(
            {
                index[path]: numbers[name]
                for path, name in prelabelled.items()
                if path in index and _is_unlabelled(state, index[path])
            }
        )
        transaction.add_images(
            (path, numbers[prelabelled[path]] if path in prelabelled else None)
            for path in paths
            if path not in index
        )


def _is_unlabelled(state: State, image: int) -> bool:
    """Return whether nobody has said anything about the image, and it came without a label."""
    return bool(state.labels[image] == UNKNOWN) and image not in state.votes
