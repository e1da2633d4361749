"""Mean and standard deviation of three channels."""

import pytest

from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.input.images.normalisation import check_normalisation


@pytest.mark.parametrize(
    "mean, std, message",
    [
        ((0.5,), (0.5,) * 3, r"config.data.mean=\(0.5,\) must be three numbers"),
        ((0.5,) * 3, (0.5,) * 2, "config.data.std=.* must be three numbers"),
        ((0.5,) * 3, (0.5, 0.0, 0.5), "config.data.std=.* must be more than 0"),
    ],
)
def test_impossible_numbers_are_refused(mean, std, message):
    with pytest.raises(ConfigError, match=message):
        check_normalisation(mean, std)
