"""Files that several tests write."""

from pathlib import Path

import cv2
import numpy as np


def write_mask(path: Path, mask: np.ndarray) -> None:
    """0 and 255."""
    cv2.imwrite(str(path), mask.astype(np.uint8) * 255)
