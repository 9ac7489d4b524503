"""Log-spaced steps."""

from layerscope.training.steps import is_log_step, log_steps


def test_every_doubling_and_both_ends():
    assert log_steps(48) == (0, 1, 2, 4, 8, 16, 32, 48)
    assert log_steps(64) == (0, 1, 2, 4, 8, 16, 32, 64)
    assert log_steps(1) == (0, 1)


def test_powers_of_two_alone_are_log_steps():
    assert [step for step in range(-2, 40) if is_log_step(step)] == [1, 2, 4, 8, 16, 32]
