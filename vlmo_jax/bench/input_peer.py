"""The input of stage 3 as the official code makes it, with PyTorch's DataLoader: for comparison of
its speed.

The work on a pair is the same: it is read, decoded, cropped, resized, mirrored and changed by
RandAugment with Pillow, put into tokens and masked. Images leave it as normalised floats, as the
official code has them; here the devices do that.
"""

import atexit
import io
import os
import statistics
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from ml_collections import ConfigDict
from PIL import Image, ImageEnhance, ImageOps
from torch.utils.data import DataLoader, Dataset, RandomSampler

from vlmo_jax.bench.data import PHOTOS, open_batches, opened, report_speed
from vlmo_jax.bench.report import Report
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.input.images.pixels import draw_crop
from vlmo_jax.input.pairs import PairMaker
from vlmo_jax.input.schema import empty_batch
from vlmo_jax.input.speed import Rate, Speed, measure_parts, measure_rate

ROUNDS = 3  # each of both in turn, since other programs may come and go
PREFETCH = 2  # of a worker, PyTorch's default
_BILINEAR = Image.Resampling.BILINEAR


class Pairs(Dataset):
    """Image-text pairs as tensors.

    Args:
        maker: of a recipe of pairs, for its records and texts.
        data: `config.data`.
        size: of the views, in pixels.
    """

    def __init__(self, maker: PairMaker, data: Mapping[str, Any], size: int) -> None:
        self._maker, self._data, self._size = maker, data, size
        self._texts = {n: c for n, c in maker.columns.items() if n not in ("image", "image_id")}
        self._mean, self._std = (torch.tensor(data[name]).view(3, 1, 1) for name in ("mean", "std"))

    def __len__(self) -> int:
        return len(self._maker.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record, rng = self._maker.source[index], np.random.default_rng()
        image = Image.open(io.BytesIO(record.image)).convert("RGB")
        view = _view(image, self._data, self._size, rng)
        pixels = torch.from_numpy(np.array(view)).permute(2, 0, 1).contiguous()
        texts = empty_batch(self._texts, 1)
        self._maker.write_text(texts, 0, record, rng)
        return {
            "image": pixels.to(torch.float32).div(255).sub_(self._mean).div_(self._std),
            **{name: values[0] for name, values in texts.items()},
        }


def _view(
    image: Image.Image, data: Mapping[str, Any], size: int, rng: np.random.Generator
) -> Image.Image:
    """RandomResizedCrop, RandomHorizontalFlip and RandAugment, as torchvision and the official code
    call Pillow for them.
    """
    box = draw_crop(*image.size, rng, scale=data["crop_scale"])
    image = image.crop(box).resize((size, size), Image.Resampling.BICUBIC)
    if data["flip"] and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    num_ops, magnitude = data["randaugment"] or (0, 0)
    fill = tuple(data["randaugment_fill"])
    for operation in rng.integers(len(_OPERATIONS), size=int(num_ops)):
        if rng.random() < 0.5:
            strength = magnitude / 10 * (1 if rng.random() < 0.5 else -1)
            image = _OPERATIONS[operation](image, strength, fill)
    return image


def _affine(image: Image.Image, matrix: tuple[float, ...], fill: tuple[int, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, _BILINEAR, fillcolor=fill)


_OPERATIONS = (
    lambda image, strength, fill: image,
    lambda image, strength, fill: ImageOps.autocontrast(image),
    lambda image, strength, fill: ImageOps.equalize(image),
    lambda image, strength, fill: ImageEnhance.Brightness(image).enhance(0.1 + 1.8 * abs(strength)),
    lambda image, strength, fill: ImageEnhance.Sharpness(image).enhance(0.1 + 1.8 * abs(strength)),
    lambda image, strength, fill: _affine(image, (1, 0.3 * strength, 0, 0, 1, 0), fill),
    lambda image, strength, fill: _affine(image, (1, 0, 0, 0.3 * strength, 1, 0), fill),
    lambda image, strength, fill: _affine(image, (1, 0, 10 * strength, 0, 1, 0), fill),
    lambda image, strength, fill: _affine(image, (1, 0, 0, 0, 1, 10 * strength), fill),
    lambda image, strength, fill: image.rotate(30 * strength, _BILINEAR, fillcolor=fill),
)


class Loader(NamedTuple):
    """Batches of PyTorch, and how many may be ready before they are asked for."""

    batches: Iterator[dict[str, torch.Tensor]]
    ready: int


def load_pairs(pairs: Pairs, *, batch_size: int, num_workers: int) -> Loader:
    """The batches of a DataLoader, endless for what is measured here."""
    sampler = RandomSampler(pairs, replacement=True, num_samples=10**7)
    loader = DataLoader(
        pairs,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        prefetch_factor=PREFETCH if num_workers else None,
        # Not forked: JAX has threads by now.
        multiprocessing_context="spawn" if num_workers else None,
        worker_init_fn=_end_at_once,
    )
    return Loader(iter(loader), num_workers * (PREFETCH + 1))


def _end_at_once(worker: int) -> None:
    """Lets a worker end before the threads of ArrayRecord, which abort it, are taken apart."""
    atexit.register(os._exit, 0)


def benchmark_beside_peer(config: ConfigDict, *, seconds: float, num_workers: int) -> Report:
    """Measures a recipe's pipeline of pairs and PyTorch's in turn; see `data.benchmark_data`.

    Args:
        config: ConfigDict of a recipe of image-text pairs.
        seconds: how long to measure each, each time.
        num_workers: processes of the DataLoader; 0: none.

    Returns:
        Report: the medians of both, and their ratio.

    Raises:
        ConfigError: the recipe is not one of pairs.
    """
    if config.data.kind != "pairs":
        raise ConfigError(
            f"config.data.kind={config.data.kind!r} has no peer in PyTorch; use configs/stage3.py"
        )
    ours, theirs = [], []
    with opened(config) as recipe:
        size, batch_size = recipe.config.model.image_size, recipe.config.batch_size
        for _ in range(ROUNDS):
            with open_batches(recipe) as batches:
                ready = batches.loading.most_ready
                ours.append(measure_rate(batches, ready=ready, seconds=seconds))
            maker = batches.step.maker
            assert isinstance(maker, PairMaker)
            pairs = Pairs(maker, recipe.config.data.to_dict(), size)
            peer = load_pairs(pairs, batch_size=batch_size, num_workers=num_workers)
            theirs.append(measure_rate(peer.batches, ready=peer.ready, seconds=seconds))
            del peer  # which ends its workers
        alone, parts = measure_parts(batches.step, seconds)
    speed, other = Speed(_median(ours), alone, parts), _median(theirs)
    report = report_speed(recipe.config, config.data.source or PHOTOS, speed)
    on_clock = speed.rate.records_per_second / other.records_per_second
    on_core = other.busy / speed.rate.busy
    peer_name = f"PyTorch {torch.__version__}, DataLoader of {num_workers} workers"
    rows = [
        *report.rows,
        (
            peer_name,
            f"{other.busy:8.3f} ms a record  {other.records_per_second_a_core:8.0f} records/s a"
            f" core; here {other.records_per_second:.0f} records/s",
        ),
        ("ours beside it", f"{on_clock:.2f} times on the clock, {on_core:.2f} times a core"),
    ]
    record = {
        **report.record,
        "torch": torch.__version__,
        "peer_records_per_second": other.records_per_second,
        "peer_records_per_second_a_core": other.records_per_second_a_core,
        "times_on_the_clock": on_clock,
        "times_a_core": on_core,
    }
    return Report(report.title, rows, record)


def _median(rates: list[Rate]) -> Rate:
    return Rate(*(statistics.median(values) for values in zip(*rates, strict=True)))
