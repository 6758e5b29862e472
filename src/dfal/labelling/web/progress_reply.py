"""The reply about the progress of a session. Each class is a schema of the OpenAPI description."""

from pathlib import Path
from typing import Literal

from dfal.backbones.registry import installed
from dfal.labelling.learning import progress as learning
from dfal.labelling.learning.training_process import TrainerStatus
from dfal.labelling.photos import Photos
from dfal.labelling.store.session import Session
from dfal.labelling.web.final_model import FinalModelReply
from dfal.labelling.web.replies import Finite, Reply, StatusReply, Text, status_keys


class AccuracyReply(Reply):
    """Accuracy of a model on the hold-out, with its 95 % Wilson interval.

    Attributes:
        model: the model's number.
        annotations: answers that it was trained on.
        right, of: hold-out answers that it predicts, and their number.
        value, low, high: the accuracy and the ends of its interval.
    """

    model: int
    annotations: int
    right: int
    of: int
    value: float
    low: float
    high: float


class LabelsLeftReply(Reply):
    """Estimated labels until the target, with an 80 % interval; null is out of reach."""

    labels: Finite
    low: Finite
    high: Finite


class BaselineReply(Reply):
    """What always predicting one class would reach on the hold-out.

    Attributes:
        name: the commonest class of the hold-out.
        share: the fraction of the hold-out that has it.
        beaten: whether the lower end of the accuracy's interval is above it.
    """

    name: Text
    share: float
    beaten: bool


class LearnerReply(Reply):
    """What the models learn from.

    Attributes:
        backbone: whose features; "none" for a network that is trained on pixels, "none+unlabelled"
            for one that is trained on images without a label, too; "auto" where it is not chosen
            yet.
        why: why it was chosen, in a sentence; empty where nothing was compared.
    """

    backbone: str
    why: Text


class FeaturesReply(Reply):
    """Features that are being computed.

    Attributes:
        backbone: whose.
        done, total: images that have features, and all that get some.
    """

    backbone: str
    done: int
    total: int


class StepsReply(Reply):
    """How far a training is that takes long.

    Attributes:
        done, total: its steps.
    """

    done: int
    total: int


class ProgressReply(StatusReply):
    """Everything that the page always shows.

    Attributes:
        images, unreadable: images of the session, and those that cannot be read.
        prelabelled: images that came with a label.
        annotations: images that people gave a class.
        trained_on, held_out: labelled images that models are trained on, and annotated hold-out
            images.
        declined, disputed, flagged: skipped images; those with tied votes; those with a flag.
        newer: labels that are newer than the latest model.
        classes: names, by index.
        class_counts: labelled images of each class, by name.
        rare: classes with few labels to train on, the rarest first.
        answers_by_person: answers that count, by person.
        curve: accuracy of the models so far.
        baseline: what the accuracy must exceed for anything to be learnt; null where there are too
            few hold-out answers to tell.
        seconds_per_label: median of the latest answers; null before the first.
        target, reached: the accuracy to reach, and whether the lower end of the interval has.
        answers_to_confirm: hold-out answers that would confirm the target; null where it is
            reached, or the accuracy is below it.
        labels_left: null where it is too early to tell.
        agreement: Cohen's kappa of each of the latest models with the one before.
        stop: whether the latest models agree so well that more labels change little.
        alpha: Krippendorff's alpha between people; null where it is undefined.
        error: why the latest training failed; empty where it did not.
        person: name of this machine's user; null where the page is open to others.
        folder: name of the folder of images.
        decoded: images that are decoded already.
        training: what the trainer does now; empty where there is none.
        steps: of a training that takes long; null where none does.
        final: the final model that somebody had trained from the page.
        learner: what the latest models learn from.
        features: those that are being computed; null where none are.
        photos_extra: whether a pretrained network of `dfal[photos]` is installed.
        strategy, batch, first: settings of the session.
    """

    images: int
    unreadable: int
    prelabelled: int
    annotations: int
    trained_on: int
    held_out: int
    declined: int
    disputed: int
    flagged: int
    newer: int
    classes: list[Text]
    class_counts: dict[Text, int]
    rare: list[Text]
    answers_by_person: dict[str, int]
    curve: list[AccuracyReply]
    baseline: BaselineReply | None
    seconds_per_label: float | None
    target: float
    reached: bool
    answers_to_confirm: int | None
    labels_left: LabelsLeftReply | None
    agreement: list[Finite]
    stop: bool
    alpha: Finite
    error: Text
    person: Text | None
    folder: Text
    decoded: int
    training: Literal["", "starting", "waiting", "training", "comparing", "reviewing"]
    steps: StepsReply | None
    final: FinalModelReply
    learner: LearnerReply
    features: FeaturesReply | None
    photos_extra: bool
    strategy: str
    batch: int
    first: int

    @classmethod
    def of_session(
        cls,
        session: Session,
        photos: Photos,
        training: TrainerStatus,
        final: FinalModelReply,
        person: str | None,
    ) -> "ProgressReply":
        """Return the reply for the present state of a session.

        Args:
            session: of the store.
            photos: its images.
            training: what the trainer does now.
            final: the final model.
            person: name of this machine's user, where the page may say it.
        """
        with session.locked_state() as state:
            progress = learning.progress(state)
            status = status_keys(state, photos)
            classes, backbone, learner = session.classes, state.backbone, state.learner
        settings = session.settings
        left = progress.labels_left
        features = {
            "backbone": training.backbone,
            "done": training.features_done,
            "total": training.features_total,
        }
        return cls.model_validate(
            {
                **status,
                "images": progress.images,
                "unreadable": progress.unreadable,
                "prelabelled": progress.prelabelled,
                "annotations": progress.annotations,
                "trained_on": progress.trained_on,
                "held_out": progress.held_out,
                "declined": progress.declined,
                "disputed": progress.disputed,
                "flagged": progress.flagged,
                "newer": progress.newer,
                "classes": classes,
                "class_counts": progress.classes,
                "rare": progress.rare,
                "answers_by_person": progress.people,
                "curve": [vars(accuracy) for accuracy in progress.curve],
                "baseline": None if progress.baseline is None else vars(progress.baseline),
                "seconds_per_label": progress.seconds,
                "target": progress.target,
                "reached": progress.reached,
                "answers_to_confirm": progress.to_confirm,
                "labels_left": None if left is None else vars(left),
                "agreement": progress.agreement,
                "stop": progress.stop,
                "alpha": progress.alpha,
                "error": progress.error,
                "person": person,
                "folder": Path(settings.folder).name,
                "decoded": int(photos.ready().sum()),
                "training": training.doing,
                "steps": (
                    {"done": training.step, "total": training.steps} if training.steps else None
                ),
                "final": final,
                "learner": {"backbone": backbone, "why": learner.why if learner else ""},
                "features": features if training.features_done < training.features_total else None,
                "photos_extra": bool(installed()),
                "strategy": settings.strategy_on(backbone),
                "batch": settings.batch,
                "first": settings.first,
            }
        )
