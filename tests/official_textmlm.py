"""Our model of the official stage 2 that tests/data/vlmo/tiny_base_textmlm holds."""

from vlmo_jax.interop.places import Place
from vlmo_jax.interop.vlmo import official_places


def model_fields(info: dict) -> dict:
    """Arguments of VLMo besides experts, heads and rngs, from the JSON of the reference."""
    sizes, config = info["model"], info["config"]
    return dict(
        image_size=config["image_size"],
        patch_size=sizes["patch_size"],
        text_length=config["max_text_len"],
        text_positions=config["max_text_len_of_initckpt"],
        vocab_size=config["vocab_size"],
        width=sizes["embed_dim"],
        depth=sizes["depth"],
        num_heads=sizes["num_heads"],
        mlp_dim=4 * sizes["embed_dim"],
        num_upper=sizes["depth"] - sizes["vlffn_start_layer_index"],
        position="relative",
        layer_scale=sizes["layer_scale_init_values"],
    )


def places_of(fields: dict) -> dict[str, Place]:
    """The places of the official tensors in the model of `model_fields`."""
    names = ("depth", "num_upper", "num_heads", "patch_size", "position")
    return official_places(**{name: fields[name] for name in names}, layer_scale=True)
