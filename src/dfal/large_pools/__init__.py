"""Selection from pools that are larger than memory: read in blocks, ranked in parts, merged."""

from typing import TYPE_CHECKING

from dfal.lazy import lazy_names

if TYPE_CHECKING:
    from dfal.large_pools.best import Best, tie_breaks
    from dfal.large_pools.scoring import Job
    from dfal.large_pools.selecting import Selected, State, select
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "dfal.large_pools.best": "Best tie_breaks",
            "dfal.large_pools.scoring": "Job",
            "dfal.large_pools.selecting": "Selected State select",
        },
    )

__all__ = ["Best", "Job", "Selected", "State", "select", "tie_breaks"]
