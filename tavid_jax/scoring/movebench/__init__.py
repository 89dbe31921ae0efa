"""How near generated videos of MoveBench stay to the tracks that they were given."""

from tavid_jax.scoring.movebench.judge import Score, judge, summary

__all__ = ["Score", "judge", "summary"]
