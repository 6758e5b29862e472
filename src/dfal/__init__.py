"""Label fewer images: DeepFool active learning (Ducoffe & Precioso 2018) for any PyTorch
classifier.

>>> import dfal, torch
>>> model, images = dfal.lenet5(), torch.rand(64, 1, 28, 28)
>>> pool = dfal.Pool.new(images, known={3: 1, 8: 0})
>>> query = dfal.DFAL(candidates=30)(model, pool, 5, dfal.generator(0, 0, "select"))
>>> pool = pool.learn(query, answers=[4, 2, 0, 4, 1])
>>> pool.annotations, pool.labelled_data_size
(7, 12)
"""

import importlib
from typing import TYPE_CHECKING, Any

from dfal.attacks import FGSM, DeepFool, LinearHead
from dfal.data.image_array import Images
from dfal.errors import DfalError
from dfal.loop import Round, active_learning
from dfal.nn.dropout import only_dropout_on
from dfal.nn.features import features
from dfal.nn.inference import logits, predict
from dfal.nn.networks import lenet5, vgg8
from dfal.nn.training import Training, fit
from dfal.pool import LabelledData, Pool
from dfal.protocols import Attack, Oracle, Strategy
from dfal.query import DECLINED, UNKNOWN, Perturbation, Query
from dfal.seeding import derive_seed, generator
from dfal.strategies import (
    BADGE,
    BALD,
    CEAL,
    DFAL,
    EGL,
    BatchBALD,
    BatchDFAL,
    ClusterMargin,
    CoreSet,
    Entropy,
    LeastConfidence,
    Margin,
    MaxHerding,
    ProbCover,
    Random,
    RobustCoreSet,
    Stochastic,
    TypiClust,
    UHerding,
    WithTwins,
)

if TYPE_CHECKING:
    from dfal.experiments.store import Store
    from dfal.experiments.trial import Trial

__all__ = [
    "BADGE",
    "BALD",
    "CEAL",
    "DECLINED",
    "DFAL",
    "EGL",
    "FGSM",
    "UNKNOWN",
    "Attack",
    "BatchBALD",
    "BatchDFAL",
    "ClusterMargin",
    "CoreSet",
    "DeepFool",
    "DfalError",
    "Entropy",
    "Images",
    "LabelledData",
    "LeastConfidence",
    "LinearHead",
    "Margin",
    "MaxHerding",
    "Oracle",
    "Perturbation",
    "Pool",
    "ProbCover",
    "Query",
    "Random",
    "RobustCoreSet",
    "Round",
    "Stochastic",
    "Store",
    "Strategy",
    "Training",
    "Trial",
    "TypiClust",
    "UHerding",
    "WithTwins",
    "active_learning",
    "derive_seed",
    "features",
    "fit",
    "generator",
    "lenet5",
    "logits",
    "only_dropout_on",
    "predict",
    "vgg8",
]

_LATER = {"Store": "dfal.experiments.store", "Trial": "dfal.experiments.trial"}
"""What brings SQLite or the data sets along is imported when it is first used."""


_FORMER = {"seed_for": "derive_seed"}
"""Public names that have become others, and may be used as before."""


def __getattr__(name: str) -> Any:
    if name in _FORMER:
        return globals()[_FORMER[name]]
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
