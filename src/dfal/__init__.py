"""Label fewer images: DeepFool active learning for any PyTorch classifier.

Source: Ducoffe & Precioso 2018.

>>> import dfal, torch
>>> model, images = dfal.lenet5(), torch.rand(64, 1, 28, 28)
>>> pool = dfal.Pool.new(images, known={3: 1, 8: 0})
>>> query = dfal.DFAL(candidates=30)(model, pool, 5, dfal.generator(0, 0, "select"))
>>> pool = pool.learn(query, answers=[4, 2, 0, 4, 1])
>>> pool.annotations, pool.labelled_data_size
(7, 12)
"""

from typing import TYPE_CHECKING

from dfal.lazy import lazy_names

__version__ = "0.2.0"

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
    "FewLabels",
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
    "WithCoverage",
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

if TYPE_CHECKING:
    from dfal.attacks.affine import LinearHead
    from dfal.attacks.deepfool import DeepFool
    from dfal.attacks.fgsm import FGSM
    from dfal.data.image_array import Images
    from dfal.errors import DfalError
    from dfal.experiments.store import Store
    from dfal.experiments.trial import Trial
    from dfal.loop import Round, active_learning
    from dfal.nn.dropout import only_dropout_on
    from dfal.nn.features import features
    from dfal.nn.inference import logits, predict
    from dfal.nn.networks import lenet5, vgg8
    from dfal.nn.training import fit
    from dfal.nn.training_settings import Training
    from dfal.pool import LabelledData, Pool
    from dfal.protocols import Attack, Oracle, Strategy
    from dfal.query import DECLINED, UNKNOWN, Perturbation, Query
    from dfal.seeding import derive_seed, generator
    from dfal.seeding import seed_for as seed_for
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
        FewLabels,
        LeastConfidence,
        Margin,
        MaxHerding,
        ProbCover,
        Random,
        RobustCoreSet,
        Stochastic,
        TypiClust,
        UHerding,
        WithCoverage,
        WithTwins,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "dfal.attacks.affine": "LinearHead",
            "dfal.attacks.deepfool": "DeepFool",
            "dfal.attacks.fgsm": "FGSM",
            "dfal.data.image_array": "Images",
            "dfal.errors": "DfalError",
            "dfal.experiments.store": "Store",
            "dfal.experiments.trial": "Trial",
            "dfal.loop": "Round active_learning",
            "dfal.nn.dropout": "only_dropout_on",
            "dfal.nn.features": "features",
            "dfal.nn.inference": "logits predict",
            "dfal.nn.networks": "lenet5 vgg8",
            "dfal.nn.training": "fit",
            "dfal.nn.training_settings": "Training",
            "dfal.pool": "LabelledData Pool",
            "dfal.protocols": "Attack Oracle Strategy",
            "dfal.query": "DECLINED UNKNOWN Perturbation Query",
            "dfal.seeding": "derive_seed generator seed_for",
            "dfal.strategies": (
                "BADGE BALD CEAL DFAL EGL BatchBALD BatchDFAL ClusterMargin CoreSet Entropy"
                " FewLabels LeastConfidence Margin MaxHerding ProbCover Random RobustCoreSet"
                " Stochastic TypiClust UHerding WithCoverage WithTwins"
            ),
        },
        modules="analysis attacks data experiments labelling models nn stats strategies",
    )
