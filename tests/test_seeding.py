import pytest
import torch

from dfal.seeding import derive_seed, fork_rng, generator


def test_the_seed_depends_on_each_argument_and_on_their_order() -> None:
    seeds = {
        derive_seed(*arguments)
        for arguments in (
            (0, 0, "fit"),
            (1, 0, "fit"),
            (0, 1, "fit"),
            (0, 0, "select"),
            (11, 1, "fit"),
        )
    }
    assert len(seeds | {derive_seed(1, 11, "fit")}) == 6


def test_the_seed_is_the_same_in_every_version_of_dfal() -> None:
    assert (
        derive_seed(3, 7, "select") == 764082106849882585
    )  # a change here would change every published trial


@pytest.mark.parametrize("seed", [0, 1, 2**40, -1])
def test_the_seed_is_one_that_torch_takes(seed: int) -> None:
    seeds = [derive_seed(seed, round, "fit") for round in range(200)]
    assert all(0 <= one < 2**63 for one in seeds)
    assert max(seeds) >= 2**62  # all 63 bits are used
    torch.Generator().manual_seed(max(seeds))


def test_a_generator_gives_the_same_numbers_again_and_others_in_another_round() -> None:
    first = torch.rand(8, generator=generator(0, 4, "select"))
    assert torch.equal(first, torch.rand(8, generator=generator(0, 4, "select")))
    assert not torch.equal(first, torch.rand(8, generator=generator(0, 5, "select")))


def test_a_generator_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    torch.rand(8, generator=generator(0, 0, "fit"))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seeded_block_gives_the_same_numbers_whatever_came_before() -> None:
    with fork_rng(5):
        first = torch.rand(8)
    torch.rand(3)
    with fork_rng(5):
        assert torch.equal(torch.rand(8), first)
    with fork_rng(6):
        assert not torch.equal(torch.rand(8), first)


def test_a_seeded_block_leaves_the_global_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    with fork_rng(5):
        torch.rand(8)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seeded_block_that_fails_leaves_the_global_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    with pytest.raises(KeyError), fork_rng(5):
        torch.rand(8)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_seeded_block_leaves_the_generator_of_the_gpu_as_it_was(device: str) -> None:
    torch.rand(1, device="cuda")
    before = torch.cuda.get_rng_state()
    with fork_rng(5, device):
        torch.rand(8, device=device)
    assert torch.equal(torch.cuda.get_rng_state(), before)
