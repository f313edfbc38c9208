"""What an engine did, in tokens: the cost of a method, whatever the machine."""

import dataclasses


@dataclasses.dataclass
class Counters:
    """What the engine did so far, in tokens.

    Attributes:
        prefilled: prompt tokens whose keys and values were computed, without padding.
        prefilled_twice: those of them whose prompt had been prefilled before, or whose chain had
            lost its row.
        reused: prompt tokens that a chain took over from another one with the same prompt.
        given: tokens appended by `resume`, fed beside the other rows' decoding.
        sampled: tokens sampled.
        discarded: tokens rolled back, or cut off with a stop text.
        row_steps: row-steps decoded, idle rows included: `sampled + given` of them were used.
    """

    prefilled: int = 0
    prefilled_twice: int = 0
    reused: int = 0
    given: int = 0
    sampled: int = 0
    discarded: int = 0
    row_steps: int = 0
