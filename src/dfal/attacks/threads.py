"""Run a function on several threads, for operations too small to be shared between threads."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def map_threads(function: Callable[..., T], arguments: Sequence[tuple[Any, ...]]) -> list[T]:
    """Return the function of each of these arguments, computed on as many threads as PyTorch has.

    Each operation of PyTorch runs on its own thread alone.
    """
    threads = torch.get_num_threads()
    if min(threads, len(arguments)) == 1:
        return [function(*each) for each in arguments]
    try:
        return list(_workers(threads).map(lambda each: function(*each), arguments))
    finally:
        # A worker that starts sets its own number of threads, and the default of threads to come.
        torch.set_num_threads(threads)


@functools.cache
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "dfal", initializer=torch.set_num_threads, initargs=(1,))
