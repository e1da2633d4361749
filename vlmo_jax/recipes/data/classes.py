"""Images with a class, one random view of each, mixed with one another."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from vlmo_jax.commands.config_errors import naming, require
from vlmo_jax.commands.fields import Choice, Extra, Kind, Number, Text
from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets import open_image_source
from vlmo_jax.datasets.class_lists import CLASSES, classes_facts, classes_text, read_classes
from vlmo_jax.datasets.labels import TOLD_BY, class_of, read_labels
from vlmo_jax.datasets.sources import source_folder, split_names
from vlmo_jax.input.images.affine import check_affine
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.images.color_jitter import check_color_jitter
from vlmo_jax.input.images.drawing_style import check_share
from vlmo_jax.input.images.erasing import check_erasing
from vlmo_jax.input.images.normalisation import check_normalisation
from vlmo_jax.input.images.randaugment import check_randaugment
from vlmo_jax.input.labelled_images import LabelledExamples, LabelledRows
from vlmo_jax.input.mixed_images import Mixing
from vlmo_jax.input.pipeline import TrainBatches
from vlmo_jax.recipes.data import opening
from vlmo_jax.recipes.data.images import ImagesData
from vlmo_jax.recipes.visual import RESIZES, image_form_of

FEWEST = 2  # classes


class ClassesData(ImagesData):
    """Each image of a split once an epoch, with the number of its class. See `protocols.Data`."""

    allowed: Mapping[str, Kind] = {
        **ImagesData.allowed,
        "resize": Choice(RESIZES),
        "crop_share": Number(above=0, high=1),
        "randaugment": opening.RANDAUGMENT,
        "randaugment_fill": opening.COLOUR,
        "color_jitter": opening.JITTER,
        "affine": Extra(opening.AFFINE),
        "grey": Extra(Number()),
        "outlines": Extra(Number()),
        "erasing": Number(low=0, high=1, zero="none"),
        "mixup": Number(low=0, high=100, zero="never"),
        "cutmix": Number(low=0, high=100, zero="never"),
        "mix_switch": Number(low=0, high=1),
        "classes": Choice(TOLD_BY),
        "class_list": Extra(Text(optional=True)),
    }
    _classes: Sequence[str] = ()

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes by number, once the data are open."""
        return self._classes

    @property
    def told_by(self) -> str:
        """What tells the class of an image: one of `labels.TOLD_BY`."""
        return self._config.data.classes

    @property
    def mixing(self) -> Mixing:
        """How images are mixed."""
        data = self._config.data
        return Mixing(data.mixup, data.cutmix, data.mix_switch)

    @property
    def rows(self) -> LabelledRows:
        """Sizes that say what a batch consists of."""
        form, count = image_form_of(self._config), self._config.model.num_classes
        return LabelledRows(form, count, self.mixing.mixes)

    @property
    def augmentation(self) -> Augmentation:
        """How views of the images are drawn."""
        data = self._config.data
        return Augmentation(
            crop_scale=tuple(data.crop_scale),
            flip=data.flip,
            fast=data.get("fast_views", False),
            randaugment=tuple(data.randaugment),
            randaugment_fill=tuple(data.randaugment_fill),
            color_jitter=tuple(data.color_jitter),
            affine=tuple(data.get("affine", ())),
            grey=data.get("grey", 0.0),
            outlines=data.get("outlines", 0.0),
            erasing=data.erasing,
        )

    def check_inputs(self) -> None:
        """See `protocols.Data`."""
        opening.check_source(
            self._config, build="build --format=image_files", embedded="emoji for the drawings"
        )

    def check(self) -> None:
        """See `protocols.Data`."""
        super().check()
        data = self._config.data
        _ = self.rows  # refuses impossible sizes and draws
        check_normalisation(data.mean, data.std)
        check_randaugment(data.randaugment)
        check_color_jitter(data.color_jitter)
        check_affine(data.get("affine", ()))
        for name in ("grey", "outlines"):
            check_share(name, data.get(name, 0.0))
        check_erasing(data.erasing)

    def open(self, *, training: bool) -> None:
        """See `protocols.Data`."""
        super().open(training=training)
        self._classes = self._open_classes()
        data, model, count = self._config.data, self._config.model, len(self._classes)
        require(
            count >= FEWEST,
            f"config.data.source={data.source!r}, split {data.split!r}, has {count} class by"
            f" config.data.classes={data.classes!r}, {self._classes[0] if count else ''!r}; give"
            f" images of at least {FEWEST}, or use another of {', '.join(TOLD_BY)}",
        )
        require(
            model.num_classes == count,
            f"config.model.num_classes={model.num_classes} but there are {count} classes by"
            f" config.data.classes={data.classes!r}, {', '.join(self._classes[:3])} and so on; set"
            f" --config.model.num_classes={count}, or list those that are meant in"
            " --config.data.class_list=FILE",
        )

    def _open_classes(self) -> Sequence[str]:
        """The classes: those of a list, or all that the training split has, sorted.

        Raises:
            ConfigError: there is no list and no training split, or one that cannot be used.
        """
        data = self._config.data
        if data.get("class_list"):
            with naming(self._config, "data.class_list"):
                return read_classes(user_path(data.class_list))
        require(
            bool(data.source),
            "config.data.source is not set, whose classes are chosen from; set it, or list them in"
            " --config.data.class_list=FILE",
        )
        with naming(self._config, "data.source", "data.split", "data.classes"):
            listed = source_folder(split_names(data.source)[0]) / CLASSES
            if data.classes == "folder" and listed.is_file():
                return read_classes(listed)
            opened = self.source or open_image_source(data.source, data.split)
            return sorted(set(read_labels(opened, data.classes)))

    def batches(self, start_step: int) -> TrainBatches:
        """See `protocols.Data`."""
        with naming(self._config, "data.source", "data.classes"):
            tell = class_of(self.source, self._config.data.classes)
        maker = LabelledExamples(
            self.source,
            self.rows,
            self._config.seed,
            tell,
            self._ids,
            self.augmentation,
            self.mixing,
            self._config.batch_size,
        )
        return opening.stream(self._config, maker, start_step)

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self._classes)}

    def describe(self) -> str:
        """See `protocols.Data`."""
        data = self._config.data
        return f"{super().describe()}, {len(self._classes):,} classes by {data.classes}"

    def files(self) -> dict[str, bytes]:
        """See `protocols.BringsFiles`."""
        return {CLASSES: classes_text(self._classes).encode()}

    def preprocessing(self) -> dict[str, Any]:
        """See `protocols.Data`; with what the classes are by whose numbers the model answers."""
        if not self._classes:
            return super().preprocessing()
        return {**super().preprocessing(), "classes": classes_facts(self._classes)}
