"""Which parameters train and which are frozen, by rules on their paths.

The experts of a block lie stacked in one array, and rules may freeze some of them: such an array
is cut along its axis of experts. What trains is a tree of its own, so that gradients and optimizer
moments of the rest exist nowhere.
"""

import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.checkpoints.param_names import expert_paths
from vlmo_jax.commands.config_errors import ConfigError

log = logging.getLogger(__name__)


def rule_paths(path: tuple, shape: tuple[int, ...]) -> list[str]:
    """The names by which rules know a parameter: one, or for stacked experts one each.

    Args:
        path: tuple of keys; `.../experts/stacked/up/kernel` is known as
            `.../experts/image/up/kernel` and so on.
        shape: of the array.
    """
    return ["/".join(named) for named, _ in expert_paths(tuple(map(str, path)), shape)]


@dataclasses.dataclass(frozen=True)
class Partition:
    """The choice: path -> True (trains), False (frozen) or the tuple of experts that train."""

    choices: Mapping[tuple, bool | tuple[int, ...]]

    @classmethod
    def by_rules(
        cls, params: Any, frozen: Sequence[str], *, key: str = "optimizer.frozen"
    ) -> "Partition":
        """Freezes what the rules match.

        Args:
            params: pure tree of (abstract) parameters.
            frozen: regexes that match whole paths (see `rule_paths`).
            key: of the config, for messages.

        Raises:
            ConfigError: a rule that matches nothing, or rules that leave nothing to train.
        """
        choices, matched, kept = {}, dict.fromkeys(frozen, 0), 0
        for path, leaf in nnx.traversals.flatten_mapping(params).items():
            trains = []
            for name in rule_paths(path, leaf.shape):
                rule = next((regex for regex in frozen if re.fullmatch(regex, name)), None)
                trains.append(rule is None)
                if rule is not None:
                    matched[rule] += 1
            kept += sum(trains)
            mixed = any(trains) and not all(trains)
            choices[path] = tuple(n for n, t in enumerate(trains) if t) if mixed else trains[0]
        for regex, count in matched.items():
            if not count:
                raise ConfigError(
                    f"config.{key}: {regex!r} matches no parameter (or none that earlier rules"
                    " left)"
                )
            log.info("config.%s: %s freezes %d parameters", key, regex, count)
        if not kept:
            raise ConfigError(f"config.{key}={tuple(frozen)} leaves nothing to train")
        return cls(choices)

    def trainable(self, params: Any) -> dict[str, Any]:
        """The tree of what trains; of a partly frozen stack the experts that train."""
        flat = nnx.traversals.flatten_mapping(params)
        kept = {
            path: self._cut(flat[path], choice) for path, choice in self.choices.items() if choice
        }
        return nnx.traversals.unflatten_mapping(kept)

    def select(self, tree: Any) -> dict[str, Any]:
        """The entries of a tree like the parameters, such as shardings, that belong to what
        trains.
        """
        flat = nnx.traversals.flatten_mapping(tree)
        return nnx.traversals.unflatten_mapping(
            {path: flat[path] for path, choice in self.choices.items() if choice}
        )

    def insert(self, params: Any, trainable: Any) -> dict[str, Any]:
        """`params` with what trains replaced by `trainable`."""
        flat, new = (
            nnx.traversals.flatten_mapping(params),
            nnx.traversals.flatten_mapping(trainable),
        )
        for path, choice in self.choices.items():
            if isinstance(choice, tuple):
                flat[path] = jnp.asarray(flat[path]).at[:, jnp.asarray(choice)].set(new[path])
            elif choice:
                flat[path] = new[path]
        return nnx.traversals.unflatten_mapping(flat)

    @staticmethod
    def _cut(leaf: jax.Array, choice: bool | tuple[int, ...]) -> jax.Array:
        return leaf[:, jnp.asarray(choice)] if isinstance(choice, tuple) else leaf
