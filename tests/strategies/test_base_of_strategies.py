"""Embeddings from files."""

from pathlib import Path

import numpy as np
import pytest
from torch import nn

import dfal
from strategy_cases import rng


def test_an_embedding_must_have_a_row_for_each_image(
    tmp_path: Path, trained: nn.Sequential, pool: dfal.Pool
) -> None:
    path = tmp_path / "rows.npy"
    np.save(path, np.zeros((7, 3)))
    with pytest.raises(dfal.DfalError, match="60 rows are needed"):
        dfal.TypiClust(space=str(path))(trained, pool, 3, rng())
    np.save(path, np.full((60, 3), np.nan))
    with pytest.raises(dfal.DfalError, match="NaN or infinite"):
        dfal.TypiClust(space=str(path))(trained, pool, 3, rng())
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(dfal.DfalError, match="cannot be read"):
        dfal.TypiClust(space=str(path))(trained, pool, 3, rng())
    with pytest.raises(dfal.DfalError, match="neither 'features', 'pixels', 'components', nor"):
        dfal.TypiClust(space="feature")
