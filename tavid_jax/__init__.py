"""tavid_jax: motion-controlled video models in JAX. `tavid_jax.load(...)` opens a finished run."""

__version__ = "0.1.0"


def __getattr__(name: str):
    # Importing the package must stay cheap (data workers import it too), so the
    # Python API, which pulls in every method, is loaded on first use.
    if name == "load":
        from tavid_jax.api import load

        return load
    raise AttributeError(f"module 'tavid_jax' has no attribute {name!r}")
