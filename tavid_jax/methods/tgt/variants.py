"""What is compared: stages of one run, each sampled in its own way from the same trajectories."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from tavid_jax.data.clip import Clip
from tavid_jax.methods.finetune import variants
from tavid_jax.methods.finetune.samples import job_of
from tavid_jax.methods.tgt.draw import Draw
from tavid_jax.methods.tgt.method import Tgt
from tavid_jax.pipelines.located import locate
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.settings import LOCAL, Sampling
from tavid_jax.pipelines.video import Video


@dataclasses.dataclass(frozen=True)
class Variant:
    """A model and how it is sampled.

    Attributes:
      name: in the config.
      title, short: of tables, and over pictures.
      stage: what trained it, one stage for each seed; "" is the checkpoint, which reads no
        trajectories.
      options: fields of `pipelines.Sampling` that differ from the run's.
    """

    name: str
    title: str
    short: str
    stage: tuple[str, ...]
    options: Mapping[str, Any]

    @property
    def is_located(self) -> bool:
        """Whether it reads trajectories."""
        return self.stage != ("",)


def read_tables(config: Any) -> dict[str, Any]:
    """`config.evaluate.tables` by name, in the order of `config.evaluate.order`.

    Raises:
      ValueError: an order that is not one of all tables.
    """
    tables = config.evaluate.get("tables", {})
    order = tuple(config.evaluate.get("order", ())) or tuple(tables)
    if sorted(order) != sorted(tables):
        raise ValueError(
            f"evaluate.order {order}: give each of the tables once, {', '.join(tables) or 'none'}"
        )
    return {name: tables[name] for name in order}


def read_variants(config: Any) -> dict[str, Variant]:
    """`config.evaluate.variants`, those that its tables name.

    Raises:
      ValueError: a table that names an unknown variant or a variant an unknown stage, a field that
        is missing, options that sampling does not have, a sweep over one that a variant leaves.
    """
    evaluate, found = config.evaluate, {}
    for table, options in read_tables(config).items():
        for name in options.order:
            if name not in evaluate.variants:
                known = ", ".join(evaluate.variants)
                raise ValueError(
                    f"evaluate.tables.{table}: {name!r} is no variant, there are {known}"
                )
            found.setdefault(name, _variant(config, name, evaluate.variants[name]))
        _check_table(f"evaluate.tables.{table}", options, found)
    return found


def _check_table(where: str, options: Any, found: Mapping[str, Variant]) -> None:
    for field in ("main", "against"):
        name = options.get(field, "")
        if name not in options.order and (name or field == "main"):
            known = ", ".join(options.order)
            raise ValueError(f"{where}.{field} {name!r} is none of its order, {known}")
    over = options.get("over", "")
    lacking = [n for n in options.order if over and over not in found[n].options]
    if lacking:
        raise ValueError(f"{where}.over {over!r}: variant {lacking[0]!r} does not set this option")


def _variant(config: Any, name: str, fields: Any) -> Variant:
    where = f"evaluate.variants.{name}"
    missing = [n for n in ("stage", "title", "short") if n not in fields]
    if missing:
        raise ValueError(f"{where} has no {', '.join(missing)}")
    stages = variants.stages_of(fields)
    for stage in stages:
        if stage and stage.partition("@")[0] not in config.order:
            known = ", ".join(config.order)
            raise ValueError(f"{where}: stage {stage!r} is none of {known}")
    options = dict(fields.get("options", {}))
    unknown = sorted(set(options) - {field.name for field in dataclasses.fields(Sampling)})
    if unknown:
        raise ValueError(f"{where}.options: {unknown[0]!r} is no option of sampling")
    return Variant(name, fields.title, fields.short, stages, options)


class Models(variants.Models):
    """See `finetune.variants.Models`; stages have trained a cross-attention."""

    def kind(self, method: Tgt) -> Hashable:
        """How the cross-attention and its neighbourhoods work."""
        backbone = method.backbone
        return backbone.laca, backbone.rule, backbone.points, backbone.text_positions

    def fields(self, method: Tgt) -> dict[str, Any]:
        """What puts the cross-attention beside the backbone's own."""
        laca, rule, points, positions = self.kind(method)
        inject = functools.partial(
            locate, laca=laca, rule=rule, points=points, text_positions=positions
        )
        return {"inject": inject}

    def sample(
        self,
        pipeline: Pipeline,
        clips: Sequence[Clip],
        draw: Draw | None,
        options: Mapping[str, Any],
        *,
        seed: int,
        batch_size: int,
    ) -> list[Video]:
        """A video for every clip from its caption and trajectories.

        Clip i has the seed `seed + i`, whatever is sampled with it and however.

        Args:
          pipeline: from `open`.
          clips: with tracks and local captions.
          draw: which trajectories are given, all that it knows; None: none, for models that read
            none.
          options: fields of `Sampling` that differ from the run's.
          seed, batch_size: see above.
        """
        how = dict(vars(self.sampling.changed(options)))
        if draw is None:  # the model knows nothing of local texts
            how = {name: value for name, value in how.items() if name not in LOCAL}
        jobs = [
            job_of(
                pipeline,
                clip,
                seed=seed + i,
                name=f"{i:04d}",
                options=how,
                **({} if draw is None else {"tracks": draw.known(clip)}),
            )
            for i, clip in enumerate(clips)
        ]
        return list(pipeline.run(jobs, min(batch_size, len(jobs))))
