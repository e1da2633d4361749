"""Images with the class of each pixel, one random view of each."""

from collections.abc import Mapping, Sequence
from typing import Any

from vlmo_jax.commands.config_errors import naming, require
from vlmo_jax.commands.fields import Extra, Flag, Kind, Number, Several, Text
from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets.class_lists import CLASSES, classes_facts, classes_text, read_classes
from vlmo_jax.datasets.sources import open_segmentation_source, source_folder, split_names
from vlmo_jax.input.images.masked_views import MaskedViews
from vlmo_jax.input.images.normalisation import check_normalisation
from vlmo_jax.input.pipeline import TrainBatches
from vlmo_jax.input.segmented_images import Labelling, SegmentedExamples, SegmentedRows
from vlmo_jax.recipes.data import opening
from vlmo_jax.recipes.data.images import ImagesData


class SegmentationsData(ImagesData):
    """Each image of a split once an epoch, with its mask. See `protocols.Data`."""

    allowed: Mapping[str, Kind] = {
        **opening.LOADED,
        "resize_range": Several(Number(above=0), 2, "smallest and largest factor of the size"),
        "most_of_one": Number(above=0, high=1),
        "flip": Flag(),
        "distortion": Flag(),
        "reduce_zero_label": Flag(),
        "class_list": Extra(Text(optional=True)),
        "mean": opening.CHANNELS,
        "std": opening.CHANNELS,
    }
    _classes: Sequence[str] = ()

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes by number, once the data are open."""
        return self._classes

    @property
    def rows(self) -> SegmentedRows:
        """Sizes that say what a batch consists of."""
        model = self._config.model
        return SegmentedRows(model.image_size, model.num_classes)

    @property
    def labelling(self) -> Labelling:
        """What the numbers of masks mean."""
        config = self._config
        return Labelling(config.model.num_classes, config.data.reduce_zero_label)

    @property
    def views(self) -> MaskedViews:
        """How views of images and masks are drawn."""
        data = self._config.data
        fill = tuple(round(255 * value) for value in data.mean)
        return MaskedViews(
            tuple(data.resize_range), data.most_of_one, data.flip, data.distortion, fill
        )

    def check_inputs(self) -> None:
        """See `protocols.Data`."""
        opening.check_source(
            self._config,
            build="build --format=image_masks",
            embedded="emoji_masks for sheets of the embedded drawings",
        )

    def check(self) -> None:
        """See `protocols.Data`."""
        _ = self.rows, self.views  # refuse impossible numbers
        check_normalisation(self._config.data.mean, self._config.data.std)
        opening.check_loading(self._config)

    def open(self, *, training: bool) -> None:
        """See `protocols.Data`."""
        if training:
            self.source = opening.open_train_source(self._config, open_segmentation_source)
        self._classes = self._read_classes()
        count, model = len(self._classes), self._config.model
        require(
            count == model.num_classes,
            f"config.model.num_classes={model.num_classes} but the list has {count} classes; set"
            f" --config.model.num_classes={count}, or give another --config.data.class_list=FILE",
        )

    def _read_classes(self) -> Sequence[str]:
        """Names of a list, or numbers where there is none.

        Raises:
            ConfigError: the list cannot be used.
        """
        data = self._config.data
        with naming(self._config, "data.class_list", "data.source"):
            if data.get("class_list"):
                return read_classes(user_path(data.class_list))
            if data.source:
                listed = source_folder(split_names(data.source)[0]) / CLASSES
                if listed.is_file():
                    return read_classes(listed)
        first = int(data.reduce_zero_label)
        return [f"label {number + first}" for number in range(self._config.model.num_classes)]

    def batches(self, start_step: int) -> TrainBatches:
        """See `protocols.Data`."""
        maker = SegmentedExamples(
            self.source, self.rows, self._config.seed, self.labelling, self.views
        )
        return opening.stream(self._config, maker, start_step)

    def files(self) -> dict[str, bytes]:
        """See `protocols.BringsFiles`."""
        return {CLASSES: classes_text(self._classes).encode()}

    def preprocessing(self) -> dict[str, Any]:
        """See `protocols.Data`; with what the classes are by whose numbers the model answers."""
        said = opening.image_preprocessing(self._config)
        return {**said, "classes": classes_facts(self._classes)} if self._classes else said
