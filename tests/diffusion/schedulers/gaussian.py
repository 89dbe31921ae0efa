"""Flow matching of Gaussian data N(0, spread^2): the velocity and its exact path."""

import numpy as np

SPREAD = 0.4


def velocity(x, sigma):
    """E[eps - x0 | x] at noise level sigma."""
    variance = ((1 - sigma) * SPREAD) ** 2 + sigma**2
    return x * (sigma - (1 - sigma) * SPREAD**2) / variance


def path(x, begin: float, end: float):
    """From x at one level to the other."""
    deviation = [np.sqrt(((1 - sigma) * SPREAD) ** 2 + sigma**2) for sigma in (begin, end)]
    return x * deviation[1] / deviation[0]


def order(make, steps: int, **options) -> float:
    """log2 of the ratio of errors at the data between n and 2n steps; float64 all through."""
    import jax
    import jax.numpy as jnp

    errors = []
    with jax.enable_x64(True):
        for n in (steps, 2 * steps):
            sampler = make(n, **options)
            state = sampler.init(jnp.ones((1, 1)))
            for i in range(n):
                output = velocity(state.x, sampler.sigmas[i])
                state = sampler.step(state, sampler.row(i, jnp.float64), output)
            exact = path(1.0, sampler.sigmas[0], 0.0)
            errors.append(abs(float(state.x[0, 0]) - exact))
    return float(np.log2(errors[0] / errors[1]))
