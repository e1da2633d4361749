"""How well a model sorts pictures by names alone: python -m vlmo_jax.zero_shot FOLDER --model=DIR

    python -m vlmo_jax.zero_shot pictures --model=runs/clip
    python -m vlmo_jax.zero_shot imagenet/val --model=runs/clip --names=names.txt --templates=photos
    python -m vlmo_jax.zero_shot my_data --model=runs/clip --split=validation --json
    python -m vlmo_jax.zero_shot emoji --model=runs/clip --split=unseen_artist --classes=group

A picture's class is the folder that it lies in; tars are read like folders. What a class is called
is the name of its folder, with blanks for - and _, or what --names says: a line each of folder, tab
and name (several, with tabs between), or JSON. --templates is a list that comes with the package
(plain, photos, drawings) or a file with one a line, {} in the place of the name. The vectors of all
texts of a class are averaged.

Printed are the shares of pictures whose class is nearest, and among the five nearest, that of
naming the most frequent class alone, and a table of classes. Pictures that cannot be used are
named, and left out.
"""

import argparse
import functools
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vlmo_jax.commands.endings import UserError
from vlmo_jax.datasets import sources
from vlmo_jax.datasets.labels import TOLD_BY, folder_of, read_labels
from vlmo_jax.inference.commands.inputs import Input, Inputs

if TYPE_CHECKING:
    import numpy as np

    from vlmo_jax.inference.inputs import BrokenInputError
    from vlmo_jax.inference.model import Model

CHUNK = 4096  # pictures that are encoded together


class NothingClassifiedError(UserError, ValueError):
    """There are no pictures in folders."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.zero_shot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", metavar="FOLDER", help="folder of folders, or a data set")
    parser.add_argument("--model", required=True, metavar="DIR", help="as vlmo_jax.load takes it")
    parser.add_argument("--tokenizer", metavar="FILE", help="where the model carries none")
    parser.add_argument("--templates", default="photos", metavar="NAME|FILE")
    parser.add_argument("--names", metavar="FILE", help="what the classes are called")
    parser.add_argument(
        "--classes", choices=TOLD_BY, default="folder", help="of a data set: what tells the class"
    )
    parser.add_argument("--split", help="of a data set (default: all)")
    parser.add_argument("--batch_size", type=int, metavar="N", help="default: by the device")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    args.texts, args.format = False, None  # what Inputs asks beside
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Classifies the pictures that the command line names, and says how many are right."""
    args = parse(argv)
    # Only now, so that --help need not wait for them.
    from vlmo_jax.evals.class_scores import class_metrics, class_table, format_table
    from vlmo_jax.evals.evaluation import metric_lines
    from vlmo_jax.inference.loading import load
    from vlmo_jax.input.text.prompts import read_names, read_templates

    templates = read_templates(args.templates)
    names = read_names(args.names) if args.names else None
    model = load(args.model, tokenizer=args.tokenizer, batch_size=args.batch_size)
    vectors, labels, broken = _encode(model, args)
    if not labels:
        first = next((f" ({name}: {why})" for name, why in broken.items()), "")
        raise NothingClassifiedError(
            f"{args.input}: no picture lies in a folder that would be its class{first}; give a"
            " folder with a folder of pictures for each class"
        )
    classes, classified = _classify(model, vectors, labels, names, templates)
    metrics = class_metrics(classified)
    table = class_table(classes, classified.confusion)
    if args.json:
        facts = {"images": len(labels), "classes": len(classes), "templates": len(templates)}
        print(json.dumps({**facts, **metrics, "per_class": table, "broken": broken}))
        return
    print(f"{len(labels):,} pictures of {len(classes):,} classes, {len(templates)} templates")
    print("\n".join(metric_lines(metrics)))
    print("\n".join(format_table(table, limit=len(table))))
    for name, reason in broken.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)


def _encode(
    model: "Model", args: argparse.Namespace
) -> tuple["np.ndarray", list[str], dict[str, str]]:
    """Vectors of the pictures, their classes, and {name: why} of those that were left out."""
    import numpy as np

    inputs = Inputs(args)
    rows, labels, broken = _labelled(args, inputs), [], {}
    found = []
    while chunk := list(itertools.islice(rows, CHUNK)):
        errors: dict[int, BrokenInputError] = {}
        note = functools.partial(_note, errors)
        vectors = model.encode_image([one.item for one, _ in chunk], on_error=note)
        kept = []
        for row, (one, told) in enumerate(chunk):
            label = told or folder_of(getattr(one.item, "record_id", one.name))
            if row in errors:
                broken[one.name] = errors[row].reason
            elif not label:
                broken[one.name] = "it lies in no folder that would be its class"
            else:
                kept.append(row)
                labels.append(label)
        found.append(vectors[kept])
    broken |= inputs.left_out
    return (np.concatenate(found) if found else np.zeros((0, 1), np.float32)), labels, broken


def _labelled(args: argparse.Namespace, inputs: Inputs) -> Iterator[tuple[Input, str]]:
    """The pictures, each with its class, "" where its folder is to tell."""
    if args.classes == "folder":
        yield from ((one, "") for one in inputs)
        return
    for split in [args.split] if args.split else list(sources.split_sizes(args.input)):
        labels = read_labels(sources.open_image_source(args.input, split), args.classes)
        alone = Inputs(argparse.Namespace(**{**vars(args), "split": split}))
        yield from zip(alone, labels, strict=True)


def _note(errors: dict[int, "BrokenInputError"], error: "BrokenInputError") -> None:
    errors[error.position] = error


def _classify(
    model: "Model",
    vectors: "np.ndarray",
    labels: list[str],
    names: dict[str, tuple[str, ...]] | None,
    templates: tuple[str, ...],
) -> tuple[list[str], Any]:
    """The classes, and what each picture is taken for."""
    import numpy as np

    from vlmo_jax.evals.zero_shot import Classes, class_texts, classify
    from vlmo_jax.input.text.prompts import names_of
    from vlmo_jax.tasks.zero_shot import average

    names_of(sorted(set(labels)), names)  # refuses classes without a name
    classes = sorted(set(labels)) if names is None else list(names)
    texts, counts = class_texts(Classes(classes, names_of(classes, names), templates))
    prototypes = average(model.encode_text(texts), counts)
    number_of = {label: number for number, label in enumerate(classes)}
    return classes, classify(vectors, prototypes, np.array([number_of[label] for label in labels]))
