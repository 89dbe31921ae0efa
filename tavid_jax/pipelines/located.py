"""Wan with a location-aware cross-attention: what a batch holds, and one evaluation.

A batch holds besides, for N trajectories: "local_text", features (N, L, E) of the text encoder,
"local_length", real positions (N,), and the pairs "near_token", "near_owner", "near_gauss",
"near_share" (S,), see `tracks.neighbourhoods.Pairs`; optionally "strength", lambda. A batch
without them is the published model's.
"""

LOCAL_TEXT, LOCAL_LENGTH, STRENGTH = "local_text", "local_length", "strength"
NEAR = ("near_token", "near_owner", "near_gauss", "near_share")
# Node of the parameters, beside those of the backbone: leaves with a leading axis over the blocks
# that have one: q, k, v, o (kernel, bias), q_norm, k_norm (scale); low-rank: q, k, v, o (a, b).
NODE = "laca"
