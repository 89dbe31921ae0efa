"""Sizes of the T5 text encoders, and the published ones by name."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class T5Config:
    """One encoder of the T5 v1.1 family; the defaults are those of T5 v1.1-XXL.

    Attributes:
      vocab_size: rows of the embedding; a tokenizer may have fewer pieces.
      dim: width D of every token.
      num_heads, head_dim: of attention; their product need not be `dim`.
      ffn_dim: hidden width of the gated MLP.
      num_layers: depth.
      num_buckets: kinds of distances between two tokens, half of them in each direction.
      max_distance: from about here on all distances are of one kind.
      shared_bias: one table of position biases for all blocks (T5), or one in each (umT5).
      epsilon: of all norms.
    """

    vocab_size: int = 32128
    dim: int = 4096
    num_heads: int = 64
    head_dim: int = 64
    ffn_dim: int = 10240
    num_layers: int = 24
    num_buckets: int = 32
    max_distance: int = 128
    shared_bias: bool = True
    epsilon: float = 1e-6

    def __post_init__(self):
        if self.num_buckets % 2 or self.num_buckets < 4:
            raise ValueError(
                f"T5Config: num_buckets={self.num_buckets} must be even and at least 4: half of "
                "the buckets are for keys behind the query"
            )
        if self.max_distance <= self.num_buckets // 4:
            raise ValueError(
                f"T5Config: max_distance={self.max_distance} must be above a quarter of "
                f"num_buckets={self.num_buckets}: so many distances have a bucket of their own"
            )


TEXT_PRESETS: dict[str, T5Config] = {
    "t5-v1.1-xxl": T5Config(),
    "umt5-xxl": T5Config(vocab_size=256384, shared_bias=False),
}
