"""Mean and standard deviation by which images are normalised on the device."""

from collections.abc import Sequence

from vlmo_jax.commands.config_errors import require

SMALLEST_STD = 0.001  # a step of a pixel is 0.004


def check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raises ConfigError unless `config.data.mean` and `config.data.std` are of three channels."""
    for name, values in (("mean", mean), ("std", std)):
        require(
            len(values) == 3,
            f"config.data.{name}={tuple(values)} must be three numbers, one a channel",
        )
    require(min(std) > 0, f"config.data.std={tuple(std)} must be more than 0")
    require(
        all(0 <= value <= 1 for value in mean),
        f"config.data.mean={tuple(mean)} must be 0 to 1, as pixels divided by 255 are",
    )
    require(
        all(SMALLEST_STD <= value <= 1 for value in std),
        f"config.data.std={tuple(std)} must be {SMALLEST_STD} to 1 (1 leaves pixels, divided by"
        " 255, as they are)",
    )
