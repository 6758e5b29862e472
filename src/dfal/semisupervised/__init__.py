"""Learn from a few labels and many images without one, given features of all of them.

Features become unit vectors (`space`), neighbours are joined to a graph (`graph`), labels spread
over it (`spreading`), and a linear layer is trained on what has spread (`head`).
`FewLabelLearner` does all of it after every answer.
"""

from typing import TYPE_CHECKING

from dfal.lazy import lazy_names

if TYPE_CHECKING:
    from dfal.semisupervised.learner import FewLabelLearner, Learned
    from dfal.semisupervised.neighbourhood import Neighbourhood
    from dfal.semisupervised.space import Space
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "dfal.semisupervised.learner": "FewLabelLearner Learned",
            "dfal.semisupervised.neighbourhood": "Neighbourhood",
            "dfal.semisupervised.space": "Space",
        },
    )

__all__ = ["FewLabelLearner", "Learned", "Neighbourhood", "Space"]
