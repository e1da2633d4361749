"""Makes a data set of a folder of images and a captions file: python -m vlmo_jax.datasets.build SRC
OUT

SRC is searched for images, subfolders included. The captions file is the one *.jsonl, *.csv or
*.tsv at the top of SRC unless --captions names another. In JSONL a line reads {"image":
"cats/1.jpg", "text": "a cat on a mat"}, or "texts" with a list, and maybe "keywords" (a list, or a
string with commas) and "split"; CSV and TSV have the same as columns with a header line. Other
usual names do too (file_name, path, caption, captions, sentence...), rows about the same image are
put together.

Image files are taken over byte for byte after each was decoded once. Broken and missing images and
images without a caption are left out, counted and listed in OUT/left_out.tsv; more of them than
--max_broken end it, and nothing is left at OUT.
"""

import argparse
import dataclasses
import functools
import itertools
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets import images, progress, records, writer
from vlmo_jax.datasets.readers import captions


@dataclasses.dataclass(frozen=True)
class BuildReport:
    """What became of the images.

    Attributes:
        counts: {split: images written}.
        left_out: {image that the captions file names: why it was left out}.
        blank_captions: number of captions of nothing but white space, which were dropped.
        without_captions: number of image files of the folder that the captions file does not name.
    """

    counts: dict[str, int]
    left_out: dict[str, str]
    blank_captions: int
    without_captions: int


def build_dataset(
    source: pathlib.Path,
    out: pathlib.Path,
    *,
    captions_file: pathlib.Path | None = None,
    splits: str | Mapping[str, float] | None = None,
    seed: int = 0,
    max_broken: float = 0.01,
    shard_bytes: int = writer.SHARD_BYTES,
    overwrite: bool = False,
    num_threads: int | None = None,
) -> BuildReport:
    """Builds a data set of the images that a captions file speaks of, in its order.

    Args:
        source: folder of images.
        out: where the data set goes.
        captions_file: a .jsonl, .csv or .tsv file, None for the one in `source`.
        splits: one split for all images, or {split: share of the images} with shares that sum to 1,
            drawn at random; None for the splits of the captions file, "train" where it names none.
        seed: of the draw.
        max_broken: largest share of the images in [0, 1] that may be left out.
        shard_bytes: size of a shard.
        overwrite: replace a data set that is already there.
        num_threads: threads that read and decode, None for one a core.

    Returns:
        What was written and what was left out.

    Raises:
        FileNotFoundError, FileExistsError: a file or folder is not there, or is in the way.
        ValueError: the captions file cannot be used, too many images are broken, or a split is left
            with none.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is no folder")
    captions_file = captions_file or captions.find_captions_file(source)
    dataset = writer.DatasetWriter(
        out,
        description=f"Images of {source.name} with the captions of {captions_file.name}.",
        shard_bytes=shard_bytes,
        overwrite=overwrite,
    )
    files = list(_files(source))
    found, missing = captions.read_captions(captions_file, files)
    if not found:
        first = f"; the first it names is {missing[0]}" if missing else ""
        raise ValueError(f"{captions_file} names no image of {source}{first}")
    left_out = dict.fromkeys(missing, "no such file, or several of that name")
    left_out |= {image.path: "no caption" for image in found if not image.texts}
    usable = [image for image in found if image.texts]
    split_of = assign_splits(usable, splits, seed)
    total = len(found) + len(missing)
    counts = dict.fromkeys(splits if isinstance(splits, Mapping) else split_of.values(), 0)
    _refuse_broken(left_out, total, max_broken)
    read = progress.map_in_order(functools.partial(_read, source), usable, num_threads=num_threads)
    with dataset:
        for image, data, problem in read:
            if problem:
                left_out[image.path] = problem
                _refuse_broken(left_out, total, max_broken)
                continue
            split = split_of[image.path]
            dataset.write(
                split, records.Record(data, tuple(image.texts), tuple(image.keywords), image.path)
            )
            counts[split] += 1
        _refuse_empty(left_out, counts)
        if left_out:
            dataset.add_file(
                "left_out.tsv", "".join(f"{name}\t{reason}\n" for name, reason in left_out.items())
            )
    without_captions = _count_images(files) - _count_images(image.path for image in found)
    return BuildReport(counts, left_out, sum(image.blank for image in found), without_captions)


def assign_splits(
    found: Sequence[captions.CaptionedImage], splits: str | Mapping[str, float] | None, seed: int
) -> dict[str, str]:
    """Returns the split of each image.

    Args:
        found: the images.
        splits: as in `build_dataset`.
        seed: of the random draw; the same images in the same order give the same splits.

    Returns:
        {path of the image: split}.
    """
    if isinstance(splits, Mapping):
        order = np.random.default_rng(seed).permutation(len(found))
        ends = np.rint(np.cumsum(list(splits.values())) * len(found)).astype(int)[:-1]
        split_of: dict[str, str] = {}
        for name, members in zip(splits, np.split(order, ends), strict=True):
            split_of |= {found[i].path: name for i in members}
        return split_of
    split_of = {image.path: splits or image.split or "train" for image in found}
    for name in set(split_of.values()):
        _check_split_name(name)
    return split_of


def parse_splits(argument: str) -> str | dict[str, float]:
    """Reads "NAME" or "train=0.9,validation=0.1".

    Raises:
        ValueError: a name has other characters than letters, digits and "_", or shares do not sum
            to 1.
    """
    parts = argument.split(",")
    for part in parts:
        _check_split_name(part.partition("=")[0])
    if len(parts) == 1 and "=" not in argument:
        return argument
    try:
        shares = {name: float(share) for name, _, share in (part.partition("=") for part in parts)}
    except ValueError as error:
        raise ValueError(
            f"--split {argument}: give NAME, or shares such as train=0.9,validation=0.1"
        ) from error
    if (
        abs(sum(shares.values()) - 1) > 1e-6
        or min(shares.values()) <= 0
        or len(shares) < len(parts)
    ):
        raise ValueError(
            f"--split {argument}: shares must be above 0, of different splits, and sum to 1"
        )
    return shares


def _check_split_name(name: str) -> None:
    if not re.fullmatch(r"\w+", name):
        raise ValueError(f"{name!r} is no name for a split; use letters, digits and _")


def _files(folder: pathlib.Path) -> Iterator[str]:
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # links that lead in a circle
            folders.clear()
            continue
        seen.add(real)
        prefix = pathlib.Path(parent).relative_to(folder).as_posix()
        yield from (name if prefix == "." else f"{prefix}/{name}" for name in names)


def _count_images(paths: Iterable[str]) -> int:
    suffixes = Image.registered_extensions()
    return sum(os.path.splitext(path)[1].lower() in suffixes for path in paths)


def _read(
    folder: pathlib.Path, image: captions.CaptionedImage
) -> tuple[captions.CaptionedImage, bytes, str]:
    """Returns the image, the bytes of its file, and what is wrong with them, "" if nothing."""
    try:
        data = (folder / image.path).read_bytes()
        images.decode_image(data)
    except (OSError, ValueError) as error:
        return image, b"", str(error)
    return image, data, ""


def _refuse_broken(left_out: Mapping[str, str], total: int, max_broken: float) -> None:
    if len(left_out) > max_broken * total:
        raise ValueError(
            f"{len(left_out)} of {total} images cannot be used so far, more than --max_broken"
            f" {max_broken:.2%}; nothing was written.\n{summarize_left_out(left_out)}"
        )


def _refuse_empty(left_out: Mapping[str, str], counts: Mapping[str, int]) -> None:
    empty = [split for split, count in counts.items() if not count]
    if empty:
        raise ValueError(
            f"no image is left for split {', '.join(empty)}; nothing was written.\n"
            f"{summarize_left_out(left_out)}"
        )


def summarize_left_out(left_out: Mapping[str, str]) -> str:
    """Returns lines that name the first ten images that were left out, with the reason."""
    lines = [f"  {name}: {reason}" for name, reason in itertools.islice(left_out.items(), 10)]
    if len(left_out) > 10:
        lines.append(f"  and {len(left_out) - 10} more")
    return "\n".join(lines)


@told_in_one_line()
def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line, builds, and says what was written and what to do next."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.datasets.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=user_path, metavar="SRC", help="folder of images")
    parser.add_argument(
        "out", type=user_path, metavar="OUT", help="folder to write the data set to"
    )
    parser.add_argument(
        "--captions",
        type=user_path,
        metavar="FILE",
        help="the .jsonl, .csv or .tsv file (default: the one in SRC)",
    )
    parser.add_argument(
        "--split",
        help=(
            "NAME for all images, or shares such as train=0.9,validation=0.1 drawn at random; "
            "comes before the splits of the captions file (default: those, else train)"
        ),
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of that draw (default: 0)")
    parser.add_argument(
        "--max_broken",
        type=float,
        default=0.01,
        metavar="SHARE",
        help=(
            "largest share of images that may be broken, missing or without a caption (default:"
            " 0.01)"
        ),
    )
    parser.add_argument(
        "--shard_mb",
        type=int,
        default=writer.SHARD_BYTES // 2**20,
        help="size of a shard in MiB (default: 256)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a data set that is already at OUT"
    )
    args = parser.parse_args(argv)
    try:
        report = build_dataset(
            args.source,
            args.out,
            captions_file=args.captions,
            splits=args.split and parse_splits(args.split),
            seed=args.seed,
            max_broken=args.max_broken,
            shard_bytes=args.shard_mb * 2**20,
            overwrite=args.overwrite,
        )
    except ValueError as error:
        sys.exit(f"error: {error}")
    if report.left_out:
        print(f"Left out {len(report.left_out)} images, all listed in {args.out / 'left_out.tsv'}:")
        print(summarize_left_out(report.left_out))
    if report.blank_captions or report.without_captions:
        print(
            f"Dropped {report.blank_captions} blank captions; {report.without_captions} images of"
            " the folder have no caption."
        )
    sizes = ", ".join(f"{split} {count}" for split, count in report.counts.items())
    print(
        f"Wrote {sum(report.counts.values())} images ({sizes}) to {args.out}. Next: python -m"
        f" vlmo_jax.datasets.stats {args.out}, and to train on it --config.data.source={args.out}"
    )


if __name__ == "__main__":
    main()
