"""FlexTraj: videos that follow point trajectories, from dense to unaligned (arXiv:2510.08527)."""
