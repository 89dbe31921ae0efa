"""What a trajectory is, and all that is done to one.

Pixel coordinates are (x, y) with pixel centres at integers. Functions take numpy or jax arrays and
answer with the same kind; coordinates are float32.
"""
