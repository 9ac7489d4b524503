"""Log-spaced steps."""

from layerscope.training.recipes import RECIPES
from layerscope.training.watch import is_log_step


def test_every_doubling_and_both_ends_are_kept():
    def kept(steps):
        return RECIPES["zoo-neox"].model_copy(update={"steps": steps}).checkpoints

    assert kept(48) == (0, 1, 2, 4, 8, 16, 32, 48)
    assert kept(64) == (0, 1, 2, 4, 8, 16, 32, 64)
    assert kept(1) == (0, 1)


def test_powers_of_two_alone_are_log_steps():
    assert [step for step in range(-2, 40) if is_log_step(step)] == [1, 2, 4, 8, 16, 32]
