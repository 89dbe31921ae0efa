"""How well generated videos follow the trajectories that they were given; see `judge_motion`.

FlexTraj's measures (FVD / Consistency / TrajErr or TrajSIM) for dense, spatially sparse, temporally
sparse and unaligned trajectories, always beside two rows that say what the numbers mean: the oracle
(the tracker on the real video) and zero motion (every point stands still).
"""

from tavid_jax.scoring.motion.cases import GRANULARITIES, Case, find_cases
from tavid_jax.scoring.motion.judge import Judges, MotionScores, judge_motion

__all__ = ["GRANULARITIES", "Case", "Judges", "MotionScores", "find_cases", "judge_motion"]
