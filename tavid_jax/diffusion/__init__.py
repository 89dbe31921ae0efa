"""Probability paths, times, sources, losses and solvers: pure functions on arrays.

Time runs from 0 (source, noise) to 1 (data); a model predicts the velocity z1 - z0. Random
functions take one key per clip, so that noise does not depend on how a batch is split over devices
or micro-batches.
"""
