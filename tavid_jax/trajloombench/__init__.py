"""TrajLoomBench: forecasts of dense tracks over 24 and 81 frames, measured as in the paper."""
