"""FlexTraj: videos that follow point trajectories, dense to sparse, even unaligned (arXiv:2510.08527)."""
