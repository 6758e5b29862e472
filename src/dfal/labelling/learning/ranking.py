"""Turn a query into ranked images, with what the network predicts for each and for its twin."""

from torch import Tensor, nn

from dfal.labelling.learning.learner import Learner
from dfal.labelling.store.records import RankedImage
from dfal.nn.inference import predict
from dfal.pool import Pool
from dfal.query import Query


def ranked_images(
    learner: Learner, model: nn.Module, pool: Pool, query: Query
) -> list[RankedImage]:
    """Return the images of a query with what the network predicts for them and their twins.

    Args:
        learner: that made the network.
        model: the network.
        pool: of the learner's images.
        query: what was selected.
    """
    indices = query.indices.tolist()
    likely = learner.logits(model, pool.images, query.indices.numpy()).topk(2, dim=1)
    twins: dict[int, tuple[Tensor, int]] = {}
    if (
        query.twins is not None
        and query.twinned is not None
        and len(query.twinned)
        and not learner.is_instant
    ):
        classes = predict(model, query.twins).argmax(1).tolist()
        changes = query.twins - pool.images.take(query.twinned)
        pairs = zip(changes, classes, strict=True)
        twins = dict(zip(query.twinned.tolist(), pairs, strict=True))
    ranking = []
    for image, score, (predicted, second) in zip(
        indices, query.scores.tolist(), likely.indices.tolist(), strict=True
    ):
        twin, twin_predicted = twins.get(image, (None, None))
        runner_up = second if twin_predicted in {None, predicted} else twin_predicted
        ranking.append(RankedImage(image, score, predicted, runner_up, twin, twin_predicted))
    return ranking
