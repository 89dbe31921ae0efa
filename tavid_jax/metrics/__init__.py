"""How good tracks are: pure aggregations of numpy arrays, on the host, summed in float64.

Tracks are point-major as in a Clip, with leading axes for clips: (C, N, T, 2) in pixels, (x, y).
Undefined values are NaN, never 0. Names are reached through their module
(`from tavid_jax.metrics import fvmd, forecast`), which says what each one means.
"""
