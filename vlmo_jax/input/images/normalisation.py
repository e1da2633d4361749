"""Mean and standard deviation by which images are normalised on the device."""

from collections.abc import Sequence

from vlmo_jax.commands.config_errors import require


def check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raises ConfigError unless `config.data.mean` and `config.data.std` are of three channels."""
    for name, values in (("mean", mean), ("std", std)):
        require(
            len(values) == 3,
            f"config.data.{name}={tuple(values)} must be three numbers, one a channel",
        )
    require(min(std) > 0, f"config.data.std={tuple(std)} must be more than 0")
