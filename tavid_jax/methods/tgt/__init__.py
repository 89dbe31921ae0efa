"""TGT: trajectories with texts of their own, read by a location-aware cross-attention."""
