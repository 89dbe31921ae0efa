"""What attention takes: queries that want an answer, and parts of what they look at.

Streams (video, text, condition) stay separate arrays. Which keys a query sees is said by the
list of parts it is given, never by a mask over queries x keys.
"""

from typing import Any

import flax.struct


@flax.struct.dataclass
class Query:
    """Queries of one stream, post-norm and post-rotary.

    Attributes:
      q: (B, Q, K, D).
      split: the tokens lie over the mesh axis `context` (where the mesh has one); Q is then a
        multiple of it. Otherwise every device has all of them.
    """

    # Any: as a pytree it may also hold shapes, shardings or None.
    q: Any
    split: bool = flax.struct.field(pytree_node=False, default=False)


@flax.struct.dataclass
class Part:
    """Keys and values of one stream, post-norm and post-rotary.

    Attributes:
      k, v: (B, S, K, D).
      length: how many tokens are real; the rest, at the end, is padding that nobody sees.
        None: all.
      split: the tokens lie over the mesh axis `context`; S is then a multiple of it and `length`
        counts the tokens of all devices.
    """

    k: Any
    v: Any
    length: int | None = flax.struct.field(pytree_node=False, default=None)
    split: bool = flax.struct.field(pytree_node=False, default=False)

    @property
    def real(self) -> int:
        """How many keys are not padding."""
        return self.k.shape[1] if self.length is None else self.length
