"""Tables of the T5 and umT5 encoders: transformers' naming, and that of Wan's original file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tavid_jax.models.text.config import T5Config
from tavid_jax.models.text.t5 import param_shapes
from tavid_jax.weights.formats import CLASSES, Format
from tavid_jax.weights.ops import COPY, TRANSPOSE
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.table import Row, Table

Naming = Literal["transformers", "original"]

_EMBED = ("embed", "shared", "token_embedding")
_NORM = ("norm/scale", "encoder.final_layer_norm", "norm")
_ATTENTION = "layer.0.SelfAttention"
_MLP = "layer.1.DenseReluDense"
# Each line: our path, transformers' name, the original umT5 name; inside a block.
_POSITION_BIAS = (
    "position_bias",
    f"{_ATTENTION}.relative_attention_bias",
    "pos_embedding.embedding",
)
_KERNELS = (
    *((f"attn/{x}", f"{_ATTENTION}.{x}", f"attn.{x}") for x in "qkvo"),
    ("mlp/gate", f"{_MLP}.wi_0", "ffn.gate.0"),
    ("mlp/fc1", f"{_MLP}.wi_1", "ffn.fc1"),
    ("mlp/fc2", f"{_MLP}.wo", "ffn.fc2"),
)
_SCALES = (
    ("attn_norm", "layer.0.layer_norm", "norm1"),
    ("mlp_norm", "layer.1.layer_norm", "norm2"),
)
# Another name of the embedding; the halves of a whole T5 that are no encoder.
_IGNORED = (r"encoder\.embed_tokens\.weight", r"decoder\..*", r"lm_head\..*")


def t5_table(config: T5Config, naming: Naming = "transformers") -> Table:
    """The table of one encoder; the original naming is that of umT5."""
    column = {"transformers": 1, "original": 2}[naming]
    at = {"transformers": "encoder.block", "original": "blocks"}[naming]
    layers = range(config.num_layers)

    def key(names: tuple[str, ...]) -> str:
        return f"{at}.{{i}}.{names[column]}.weight"

    rows = [
        Row(f"{_EMBED[column]}.weight", _EMBED[0]),
        Row(f"{_NORM[column]}.weight", _NORM[0]),
    ]
    rows += [Row(key(n), f"blocks/{n[0]}/kernel", TRANSPOSE, layers) for n in _KERNELS]
    rows += [Row(key(n), f"blocks/{n[0]}/scale", COPY, layers) for n in _SCALES]
    if config.shared_bias:  # the first block's serves all
        rows.append(Row(key(_POSITION_BIAS).replace("{i}", "0"), "position_bias"))
    else:
        rows.append(Row(key(_POSITION_BIAS), "blocks/position_bias", COPY, layers))
    return Table(tuple(rows), ignored=_IGNORED if naming == "transformers" else ())


def t5_shapes(config: T5Config) -> dict:
    """The parameters' shapes."""
    return param_shapes(config)


_ENCODER = {
    "d_model": ("dim", 512),
    "d_kv": ("head_dim", 64),
    "relative_attention_num_buckets": ("num_buckets", 32),
    "relative_attention_max_distance": ("max_distance", 128),
    "layer_norm_epsilon": ("epsilon", 1e-6),
}
_T5 = _ENCODER | {
    "vocab_size": ("vocab_size", 32128),
    "d_ff": ("ffn_dim", 2048),
    "num_layers": ("num_layers", 6),
    "num_heads": ("num_heads", 8),
}
_UMT5 = _ENCODER | {
    "vocab_size": ("vocab_size", 250112),
    "d_ff": ("ffn_dim", 1024),
    "num_layers": ("num_layers", 8),
    "num_heads": ("num_heads", 6),
}
_GATED = {"feed_forward_proj": "gated-gelu"}


def _decode_t5(
    content: Mapping[str, Any], stated: dict[str, Any], path: Path | str, keys: Any
) -> dict[str, Any]:
    if "feed_forward_proj" not in content:
        raise WeightsError(
            f"{path} describes the first T5, whose MLP has no gate; supported is T5 v1.1 "
            "(feed_forward_proj: gated-gelu)"
        )
    return {"shared_bias": True}


_T5_FORMAT = Format(
    T5Config,
    _T5,
    _GATED,
    _decode_t5,
    lambda config: {"model_type": "t5"},
    describes=lambda config: config.shared_bias,
    class_key=CLASSES,
)
_UMT5_FORMAT = Format(
    T5Config,
    _UMT5,
    _GATED,
    lambda content, stated, path, keys: {"shared_bias": False},
    lambda config: {"model_type": "umt5"},
    describes=lambda config: not config.shared_bias,
    class_key=CLASSES,
)
# Of the encoder alone, and of the whole model whose encoder is read.
FORMATS = {
    "T5EncoderModel": _T5_FORMAT,
    "UMT5EncoderModel": _UMT5_FORMAT,
    "T5ForConditionalGeneration": _T5_FORMAT,
    "UMT5ForConditionalGeneration": _UMT5_FORMAT,
}
