"""When training does what: its two stages, measured in steps, in samples and in learning rate.

The first stage teaches everything, and its learning rate falls to nothing. The finishing stage is
short and mostly about what a model is weak in after the first.
"""

from __future__ import annotations

from typing import Final

#: Batches that a worker makes at a time, and from how many samples.
BLOCK: Final = 32
SAMPLES: Final = 1000

#: Steps of the first stage, of the second, and of the shipped model. Stages end with a block.
FIRST: Final = 84 * BLOCK
FINISHING: Final = 28 * BLOCK
STEPS: Final = FIRST + FINISHING

#: The place in a worker's samples from which the finishing stage reads.
FINISHING_FROM: Final = FIRST // BLOCK * SAMPLES

_WARM_UP: Final = 60

#: The last part of the first stage, in which its rate falls.
_DECAY: Final = 0.5

#: Of the finishing stage: how high the rate rises again, and in how many steps.
_PEAK: Final = 0.5
_RISE: Final = 30


def rate(step: int) -> float:
    """The share of the full learning rate at a step, of which the first is 0.

    It depends on nothing else, so a run can be interrupted anywhere and is still the same.
    """
    if step < FIRST:
        return min((step + 1) / _WARM_UP, 1.0, (FIRST - step) / (FIRST * _DECAY))
    done = step - FIRST
    return _PEAK * min((done + 1) / _RISE, (FINISHING - done) / (FINISHING - _RISE))
