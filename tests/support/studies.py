"""Studies and architectures that are quick."""

from __future__ import annotations

import random
from pathlib import Path

from models.architecture import PADDINGS, TRANSITIONS, Architecture, Stage
from models.arms.arm import ARMS
from models.heads import HEADS
from models.inits import INITS
from models.norms import NORMS
from search.spec.study import StudySpec
from search.spec.study_file import load_spec

TINY = """
[data]
name = "digits"
limit = 200
[space]
blocks = {low = 1, high = 3}
widths = [[4, 6]]
norm = ["none", "batch"]
lr_sgd = {low = 0.01, high = 0.1, log = true}
[train]
epochs = 3
batch_size = 32
[search]
design = "matched"
pruner = "none"
"""
"""A study whose trials take a tenth of a second, its groups whole and one after another."""


def tiny_spec(folder: Path, *changes: tuple[str, str]) -> StudySpec:
    text = TINY
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "tiny.toml"
    path.write_text(text)
    return load_spec(path)


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
                block=rng.choice(list(ARMS)),
                stages=tuple(Stage(width=width, blocks=rng.randint(1, 3)) for width in widths),
                norm=rng.choice(list(NORMS)),
                init=rng.choice(list(INITS)),
                zero_branch=rng.random() < 0.5,
                kernel=rng.choice([1, 3, 5]),
                padding=rng.choice(PADDINGS),
                stem_pool=rng.random() < 0.3,
                transition=rng.choice(TRANSITIONS),
                head=rng.choice(list(HEADS)),
            )
        except ValueError as error:
            assert "would shrink below 1 pixel" in str(error)  # noqa: PT017 - no other rule may refuse these
            continue
        found.append(architecture)
    return found
