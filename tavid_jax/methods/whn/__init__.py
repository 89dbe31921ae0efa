"""WHN ("What Happens Next?"): one picture -> how its points will move. TrajLoom's baseline.

Trained here as published: rectified flow on latents of a track VAE, or on tracks themselves, whose
frame 0 is the known grid of points.
"""
