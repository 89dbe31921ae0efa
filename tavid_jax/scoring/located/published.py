"""What TGT's paper reports (arXiv 2510.15104), to stand beside values that are measured here.

Its DAVIS protocol, its CLIP and its EPE are not told in full, so ours are definitions of our own:
such rows say how large an effect is, not which system is better.
"""

from __future__ import annotations

from typing import NamedTuple

SOURCE = "arXiv 2510.15104"


class Published(NamedTuple):
    """Global and local CLIP-T, and EPE in px."""

    clip_t: float
    local_clip_t: float
    epe: float


# The main comparison, on DAVIS.
METHODS = {
    "Wan2.2-14B, global prompt": Published(0.3408, 0.2308, 265.03),
    "Wan2.2, global and local prompts": Published(0.3309, 0.2394, 180.36),
    "MotionCtrl": Published(0.3186, 0.2291, 74.33),
    "TrailBlazer": Published(0.3145, 0.2408, 65.15),
    "Tora": Published(0.3288, 0.2423, 47.41),
    "TGT": Published(0.3314, 0.2531, 25.11),
}
# What training adds. Both ablations give TGT's local CLIP-T as 0.2527.
TRAINING = {
    "dense only": Published(0.3307, 0.2394, 58.01),
    "+ sparse": Published(0.3312, 0.2447, 45.28),
    "+ Gaussian": Published(0.3314, 0.2527, 25.11),
}
# Which guidance.
GUIDANCE = {
    "global only": Published(0.3297, 0.2480, 91.38),
    "local only": Published(0.3117, 0.2493, 43.29),
    "combined": Published(0.3307, 0.2491, 53.30),
    "dual": Published(0.3314, 0.2527, 25.11),
}
TABLES = {"methods": METHODS, "training": TRAINING, "guidance": GUIDANCE}
