"""What the evaluations of dual encoders share."""

from flax import nnx

from vlmo_jax.commands.config_errors import require
from vlmo_jax.recipes.evaluations.splits import SplitsRecipe
from vlmo_jax.recipes.tasks.settings import check_heads
from vlmo_jax.recipes.visual import seen_by
from vlmo_jax.tasks.protocols import DualEncoder
from vlmo_jax.tasks.retrieval import Encoders, make_encoders


class DualEncoderRecipe(SplitsRecipe):
    """An evaluation by vectors of images and texts; see `protocols.EvaluationRecipe`."""

    heads: tuple[str, ...] = ()  # that it needs beside the contrast

    @property
    def needs(self) -> type:
        """A model that encodes both."""
        return DualEncoder

    def check(self, batch_shards: int) -> None:
        """See `protocols.EvaluationRecipe`."""
        super().check(batch_shards)
        self.require_texts()
        normalised = ("mean", "std") if seen_by(self.config).normalised else ()
        missing = [name for name in normalised if name not in self.config.data]
        require(
            not missing,
            f"config.evals.{self.name} scores images, of which"
            f" config.data.kind={self.config.data.kind!r} does not say {' and '.join(missing)}",
        )
        heads = self.config.model.get("heads", None) or ()
        contrast = "retrieval" if "retrieval" in heads else "itc"
        check_heads(self.config, f"evals.{self.name}", (contrast, *self.heads))

    def encoders(self, graphdef: nnx.GraphDef) -> Encoders:
        """The model's functions."""
        data = self.config.data
        return make_encoders(
            graphdef, mean=tuple(data.get("mean", ())), std=tuple(data.get("std", ()))
        )
