"""Values that several test files share."""

from __future__ import annotations

import random

import pytest

from models.architecture import BLOCKS, HEADS, INITS, NORMS, PADDINGS, TRANSITIONS, Architecture, Stage


def sample_architectures(count: int, seed: int = 0) -> list[Architecture]:
    """Valid architectures from all over the family, small enough to run."""
    rng = random.Random(seed)
    found: list[Architecture] = []
    while len(found) < count:
        widths = sorted(rng.choice([1, 3, 4, 6, 8]) for _ in range(rng.randint(1, 4)))
        try:
            architecture = Architecture(
                image_shape=(rng.randint(1, 4), rng.randint(1, 33), rng.randint(1, 33)),
                classes=rng.randint(2, 12),
                block=rng.choice(BLOCKS),
                stages=tuple(Stage(width=width, blocks=rng.randint(1, 3)) for width in widths),
                norm=rng.choice(NORMS),
                init=rng.choice(INITS),
                zero_branch=rng.random() < 0.5,
                kernel=rng.choice([1, 3, 5]),
                padding=rng.choice(PADDINGS),
                stem_pool=rng.random() < 0.3,
                transition=rng.choice(TRANSITIONS),
                head=rng.choice(HEADS),
            )
        except ValueError as error:
            assert "would shrink below 1 pixel" in str(error)  # noqa: PT017 - no other rule may refuse these
            continue
        found.append(architecture)
    return found


@pytest.fixture(scope="session")
def architectures() -> list[Architecture]:
    return sample_architectures(100)
