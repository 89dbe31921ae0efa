"""Which seeds train and which seeds judge: two ranges that cannot meet.

A scene is a function of (config, seed).  Training, validation on the way and every
choice of a hyper-parameter use seeds below `TEST_START`; the numbers of a report come
from seeds at or above it.  The border is committed here, and `SyntheticSource` as well
as the data-set builder take their seeds from `split_seeds`, so no training run can read
a test scene by accident.
"""

TEST_START = 10**9  # first seed of the test split
END = 2 * 10**9  # no split reaches this seed

SPLITS = {"train": (0, TEST_START), "test": (TEST_START, END)}


def split_seeds(split: str, num_scenes: int, *, offset: int = 0) -> range:
    """Seeds of the first scenes of a split.

    Args:
      split: "train" or "test".
      num_scenes: how many seeds.
      offset: how many seeds of the split to leave out first (for more data of a split).

    Returns:
      `range` of `num_scenes` seeds, all inside the split.

    Raises:
      ValueError: unknown split, negative count, or a range that would leave the split.
    """
    if split not in SPLITS:
        raise ValueError(
            f"unknown split {split!r} of the synthetic scenes: use one of {sorted(SPLITS)}"
        )
    start, end = SPLITS[split]
    if num_scenes < 0 or offset < 0 or start + offset + num_scenes > end:
        raise ValueError(
            f"split {split!r} holds {end - start} seeds: "
            f"cannot give {num_scenes} from offset {offset}"
        )
    return range(start + offset, start + offset + num_scenes)
