"""Where the parameters of Wan's autoencoders lie on the mesh."""

from tavid_jax.parallel.sharding import PathTable

# Kernels of a million elements and more are split over `fsdp` along their largest dimension (in a
# convolution, output channels), all else is copied. Activations are divided by rows, so no rule
# splits a layer's work by channels.
SHARDING = PathTable()
