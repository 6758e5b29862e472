"""Selection from pools that are larger than memory: read in blocks, ranked in parts, merged."""

from dfal.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "dfal.large_pools.selecting": "Selected State select",
        "dfal.large_pools.best": "Best tie_breaks",
        "dfal.large_pools.scoring": "Job",
    },
)
