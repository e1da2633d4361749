"""Names and layouts of VSE-infinity's checkpoints."""

from vlmo_jax.interop.places import (
    LINEAR,
    SAME,
    Layout,
    Place,
    dense_places,
    norm_places,
)

_ROW = Layout(lambda w: w[0], lambda k: k[None])
_GRU = (
    ("weight_ih_l0", "inputs", LINEAR),
    ("weight_hh_l0", "states", LINEAR),
    ("bias_ih_l0", "input_bias", SAME),
    ("bias_hh_l0", "state_bias", SAME),
)


def pooling_places(prefix: str, root: tuple[str, ...] = ()) -> dict[str, Place]:
    """Where the tensors of a GPO live in a GeneralizedPooling at `root`."""
    places = {f"{prefix}linear.weight": Place((*root, "score"), (), _ROW)}
    for suffix, direction in (("", "forward"), ("_reverse", "backward")):
        for theirs, ours, layout in _GRU:
            places[f"{prefix}gru.{theirs}{suffix}"] = Place((*root, direction, ours), (), layout)
    return places


def encoder_places(
    prefix: str, root: tuple[str, ...] = (), *, has_mlp: bool, has_gpo: bool = True
) -> dict[str, Place]:
    """Where the tensors of an EncoderImageAggr live in a RegionEncoder at `root`."""
    places = dict(dense_places(f"{prefix}fc", (*root, "dense")))
    if has_mlp:
        mlp = (*root, "mlp")
        places |= dense_places(f"{prefix}mlp.layers.0", (*mlp, "up"))
        places |= dense_places(f"{prefix}mlp.layers.1", (*mlp, "down"))
        places |= norm_places(f"{prefix}mlp.bns.0", (*mlp, "norm"))
        for theirs, ours in (("mean", "running_mean"), ("var", "running_variance")):
            name = f"{prefix}mlp.bns.0.running_{theirs}"
            places[name] = Place((*mlp, "norm", ours), (), SAME)
    if has_gpo:
        places |= pooling_places(f"{prefix}gpool.", (*root, "pooling"))
    return places
