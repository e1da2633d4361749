"""What tasks have that keep nothing from step to step."""

from collections.abc import Mapping
from typing import Any, ClassVar

from vlmo_jax.tasks.protocols import Batch, Prepared


class Stateless:
    """A task without state, whose batch is ready as it comes; see `protocols.Task`."""

    extra_axes: ClassVar[Mapping[str, tuple]] = {}

    def initial_extra(self, params: Any) -> dict[str, Any]:
        """Nothing."""
        return {}

    def prepare(self, batch: Batch, params: Any, extra: Mapping[str, Any], frozen: Any) -> Prepared:
        """The batch as it is."""
        return Prepared(batch, (), {})
