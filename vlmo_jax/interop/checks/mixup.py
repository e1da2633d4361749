"""Kind `mixup`: boxes, images and soft targets of mixup and CutMix from stored draws."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optax

from vlmo_jax.input.images.mixup import Mix, cut_box, mix_batch, share_outside, smoothed_targets
from vlmo_jax.interop.checks.reference import Arrays, Info

TOLERANCE = 2e-6
OLD = "timm_0.4.12_"  # before names of what another version of timm made of the same draws


def check_mixup(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares boxes, images, targets and the loss of each case, and where an older timm cuts other
    boxes its boxes, images and targets.
    """
    labels, num_classes = arrays["in/labels"], info["config"]["num_classes"]
    for case in info["cases"]:
        plain = smoothed_targets(labels, num_classes, case["label_smoothing"])
        targets = _check_version("", case, plain, arrays, report)
        loss = optax.softmax_cross_entropy(arrays["in/logits"], targets).mean()
        theirs = case["soft_target_loss"]
        report.compare(f"{case['name']}/soft_target_loss", loss, theirs, TOLERANCE)
        if f"{case['name']}/{OLD}images" in arrays:
            _check_version(OLD, case, plain, arrays, report)


def _check_version(
    version: str, case: Info, plain: np.ndarray, arrays: Arrays, report: Any
) -> np.ndarray:
    """Compares what one version makes of the targets `plain` [B, K] and the images; returns our new
    targets.
    """
    name, images = f"{case['name']}/{version}", arrays["in/images"].transpose(0, 2, 3, 1)
    draws = stored_draws(case, images.shape[1:3], whole_odd_sides=version != OLD)
    cuts = [(list(mix.box), mix.share) for mix in draws if mix.box]
    wanted = case[f"{version}boxes_and_lam" if version else "boxes_yl_yh_xl_xh_and_lam"]
    report.compare_equal(f"{name}boxes", [box for box, _ in cuts], [box for box, _ in wanted])
    shares = [share for _, share in cuts], [share for _, share in wanted]
    report.compare(f"{name}shares", *shares, TOLERANCE)
    images, targets = mix_batch(images, plain, of_batch(draws, case["mode"], len(images)))
    theirs = arrays[f"{name}images"].transpose(0, 2, 3, 1)
    report.compare(f"{name}images", images, theirs, TOLERANCE)
    report.compare(f"{name}targets", targets, arrays[f"{name}targets"], TOLERANCE)
    return targets


def stored_draws(case: Info, size: tuple[int, int], *, whole_odd_sides: bool) -> list[Mix]:
    """A case's draws: one for the batch, or one an image or pair; centres are given where cut."""
    centres, draws = iter(case["centres_cy_cx"]), []
    shares, cuts = np.atleast_1d(case["lam"]), np.atleast_1d(case["use_cutmix"])
    for share, cut in zip(shares.tolist(), cuts.tolist(), strict=True):
        if cut and share != 1:
            box = cut_box(size, share, next(centres), whole_odd_sides=whole_odd_sides)
            draws.append(Mix(share_outside(box, size) if case["correct_lam"] else share, box))
        else:
            draws.append(Mix(share))
    return draws


def of_batch(draws: Sequence[Mix], mode: str, batch: int) -> list[Mix]:
    """How each image of a batch is mixed; both of a pair are mixed alike."""
    return {"batch": [*draws] * batch, "elem": [*draws], "pair": [*draws, *draws[::-1]]}[mode]
