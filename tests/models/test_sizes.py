"""Impossible models are refused by their own modules, with the key and what is allowed."""

import pytest

from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.build import check_model, model_maker

TRANSFORMER = dict(
    image_size=32,
    patch_size=8,
    width=16,
    depth=3,
    num_heads=4,
    mlp_dim=32,
    num_upper=1,
    vocab_size=40,
    position="relative",
    layer_scale=0.1,
    drop_path_rate=0.1,
    init_std=0.02,
    remat="none",
    dtype="auto",
)
FIELDS = {
    "vlmo": dict(kind="vlmo", text_length=8, text_positions=12, **TRANSFORMER),
    "beit": dict(kind="beit", **TRANSFORMER),
    "discrete_vae": dict(
        kind="discrete_vae",
        image_size=32,
        vocab_size=40,
        num_hidden=32,
        num_groups=4,
        blocks_per_group=1,
        num_init=8,
        dtype="float32",
    ),
}
BOTH = ("vlmo", "beit")
ALL = (*BOTH, "discrete_vae")


@pytest.mark.parametrize("kind", ALL)
def test_possible_models_pass(kind):
    check_model(FIELDS[kind], (1, 1, 1))
    check_model(FIELDS[kind], (2, 4, 2))


@pytest.mark.parametrize(
    "kinds, changes, mesh_shape, message",
    [
        (ALL, dict(kind="vit"), (1, 1, 1), "config.model.kind='vit' is not known; use one of vlmo"),
        (ALL, dict(image_size=0), (1, 1, 1), "config.model.image_size=0 must be more than 0"),
        (ALL, dict(vocab_size=0), (1, 1, 1), "config.model.vocab_size=0 must be more than 0"),
        (
            ALL,
            dict(vocab_size=41),
            (1, 1, 2),
            r"config.model.vocab_size=41 does not divide over config.mesh.tensor \(2\); use a"
            " multiple of 2 such as 40",
        ),
        (
            ALL,
            dict(dtype="float16"),
            (1, 1, 1),
            "config.model.dtype='float16' is not allowed; use one of auto, float32, bfloat16",
        ),
        (
            BOTH,
            dict(image_size=36),
            (1, 1, 1),
            "config.model.image_size=36 does not divide over config.model.patch_size .8.",
        ),
        (BOTH, dict(num_heads=3), (1, 1, 1), "config.model.width=16 .*config.model.num_heads .3."),
        (BOTH, dict(position="both"), (1, 1, 1), "config.model.position='both' is not allowed"),
        (BOTH, dict(remat="all"), (1, 1, 1), "config.model.remat='all' .* none, block, dots"),
        (
            BOTH,
            dict(num_upper=3),
            (1, 1, 1),
            "config.model.num_upper=3 must be at least 1 and less than config.model.depth=3",
        ),
        (BOTH, dict(num_upper=0), (1, 1, 1), "config.model.num_upper=0 must be at least 1"),
        (BOTH, dict(layer_scale=-0.1), (1, 1, 1), "config.model.layer_scale=-0.1 must be 0"),
        (BOTH, dict(drop_path_rate=1.0), (1, 1, 1), "config.model.drop_path_rate=1.0 must be in"),
        (BOTH, {}, (1, 1, 8), "config.model.num_heads=4 does not divide over config.mesh.tensor"),
        (BOTH, dict(mlp_dim=30), (1, 1, 4), "config.model.mlp_dim=30 .*config.mesh.tensor .4."),
        (BOTH, {}, (1, 3, 1), "config.model.width=16 does not divide over config.mesh.fsdp .3."),
        (("vlmo",), dict(text_length=2), (1, 1, 1), "config.model.text_length=2 has no room for"),
        (
            ("vlmo",),
            dict(text_length=13),
            (1, 1, 1),
            "config.model.text_length=13 is more than config.model.text_positions=12; raise",
        ),
        (
            ("vlmo",),
            dict(heads=("mlm", "irtr")),
            (1, 1, 1),
            r"config.model.heads=\('mlm', 'irtr'\): 'irtr' unknown; use some of",
        ),
        (("vlmo",), dict(experts=("text",)), (1, 1, 1), r"config.model.experts=\('text',\) is not"),
        (
            ("discrete_vae",),
            dict(image_size=36),
            (1, 1, 1),
            r"config.model.image_size=36 does not divide over the tokenizer's stride, 2 \*\*"
            r" \(config.model.num_groups=4 - 1\) \(8\); use a multiple of 8 such as 32",
        ),
        (
            ("discrete_vae",),
            dict(num_hidden=12),
            (1, 2, 1),
            "config.model.num_hidden=12 .* 4 x config.mesh.fsdp: a block works at a fourth of its"
            r" width \(8\)",
        ),
        (("discrete_vae",), dict(num_init=-1), (1, 1, 1), "config.model.num_init=-1 must be 0"),
        (("discrete_vae",), dict(num_init=6), (1, 4, 1), "config.model.num_init=6 .*mesh.fsdp .4."),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_impossible_models_are_refused(kinds, changes, mesh_shape, message):
    for kind in kinds:
        with pytest.raises(ConfigError, match=message):
            check_model({**FIELDS[kind], **changes}, mesh_shape)


def test_a_maker_of_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="config.model.kind=None is not known"):
        model_maker(TRANSFORMER)
