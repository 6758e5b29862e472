"""Training mode of networks with frozen blocks, or without their dropout."""

from collections.abc import Callable, Iterator

from torch import nn
from torch.nn.modules.dropout import _DropoutNd


def train_mode(model: nn.Module, *, without_dropout: bool) -> Callable[[], object]:
    """Return a function that puts the network into training mode.

    Its frozen blocks stay in evaluation mode, and its dropout where it is to be left out.

    Args:
        model: the network.
        without_dropout: whether its dropout layers stay in evaluation mode.
    """
    frozen = [block for block in model.modules() if _is_frozen(block)]
    left_out = [layer for layer in model.modules() if isinstance(layer, _DropoutNd)]
    left_out = left_out if without_dropout else []
    if not frozen and not left_out:
        return model.train
    trained = list(_outside_frozen_blocks(model))

    def train() -> None:
        model.train()
        modes = [module.training for module in trained]
        for block in frozen:
            block.eval()
        # A frozen block may share modules with the rest, whose mode it must not change.
        for module, mode in zip(trained, modes, strict=True):
            module.training = mode
        for layer in left_out:
            layer.eval()

    return train


def _is_frozen(module: nn.Module) -> bool:
    """Return whether a module has parameters, and none of them is trained."""
    trained = [parameter.requires_grad for parameter in module.parameters()]
    return bool(trained) and not any(trained)


def _outside_frozen_blocks(module: nn.Module) -> Iterator[nn.Module]:
    if not _is_frozen(module):
        yield module
        for child in module.children():
            yield from _outside_frozen_blocks(child)
