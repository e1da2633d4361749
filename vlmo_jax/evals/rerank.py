"""The matching score of chosen image-text pairs, in fixed shapes, each image read once.

A process scores the pairs of the images that it reads anyway, so no image travels between
processes. Pairs are sorted by image; block k of the images is batch k of `image_batches`.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from vlmo_jax.input.schema import INDEX_COLUMNS


class PairPlan:
    """Which pairs are scored, and in which batches.

    Args:
        image_rows: [n] int, the image of each pair; the same pair may come several times.
        text_rows: [n] int, the text of each pair.
        num_images: images of the split.
        num_texts: texts of the split.
        batch_size: images of a block and pairs of a batch, over all processes.
        host_count: processes that share a batch in equal slices.
    """

    def __init__(
        self,
        image_rows: np.ndarray,
        text_rows: np.ndarray,
        *,
        num_images: int,
        num_texts: int,
        batch_size: int,
        host_count: int,
    ) -> None:
        self._num_texts = num_texts
        self._local = batch_size // host_count
        self._host_count = host_count
        self._keys = np.unique(self._key(image_rows, text_rows))
        self.image_rows, self.text_rows = np.divmod(self._keys, num_texts)
        pairs_of_slice = np.bincount(
            self.image_rows // self._local, minlength=-(-num_images // batch_size) * host_count
        )
        # All processes must take part in each batch, so a block takes as many as its fullest slice
        # needs.
        self.batches_of_block = -(
            -pairs_of_slice.reshape(-1, host_count).max(axis=1) // self._local
        )

    def _key(self, image_rows, text_rows):
        return np.asarray(image_rows, np.int64) * self._num_texts + np.asarray(text_rows, np.int64)

    def __len__(self) -> int:
        """How many different pairs there are."""
        return len(self._keys)

    def places(self, image_rows: np.ndarray, text_rows: np.ndarray) -> np.ndarray:
        """Returns where in the plan the given pairs stand: an int array of their shape."""
        return np.searchsorted(self._keys, self._key(image_rows, text_rows))

    def batches(
        self,
        blocks: Iterable[Mapping[str, np.ndarray]],
        tokens: Mapping[str, np.ndarray],
        host_index: int,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Makes the batches of one process.

        Args:
            blocks: its batches of `image_batches`.
            tokens: token_ids and token_mask [texts, T] of all texts.
            host_index: its number.

        Yields:
            what is seen, such as image uint8 [b, S, S, 3], token_ids, token_mask [b, T], index
            int32 [b] (place in the plan), valid bool [b].
        """
        for number, (block, count) in enumerate(zip(blocks, self.batches_of_block, strict=True)):
            first_image = (number * self._host_count + host_index) * self._local
            start, stop = np.searchsorted(self.image_rows, (first_image, first_image + self._local))
            for begin in start + self._local * np.arange(count):
                places = np.arange(begin, min(begin + self._local, stop))
                padding = (0, self._local - len(places))
                images = np.pad(self.image_rows[places] - first_image, padding)
                texts = np.pad(self.text_rows[places], padding)
                yield {
                    **{name: block[name][images] for name in block if name not in INDEX_COLUMNS},
                    **{name: array[texts] for name, array in tokens.items()},
                    "index": np.pad(places, padding).astype(np.int32),
                    "valid": np.arange(self._local) < len(places),
                }
