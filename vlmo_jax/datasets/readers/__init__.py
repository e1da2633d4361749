"""Files of others to records, a file a format.

`FORMATS` names what `python -m vlmo_jax.datasets.build SRC OUT --format=NAME` reads. A reader's
module is imported when its format is asked for, and its docstring is the format's documentation.
"""

import importlib
import inspect
from pathlib import Path
from typing import Any, NamedTuple

from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.protocol import Reader


class Format(NamedTuple):
    """A format that can be built.

    Attributes:
        reader: "module:Class" of its `Reader`, which is made from the folder of a download.
        about: what it is, in a few words.
    """

    reader: str
    about: str


_HERE = "vlmo_jax.datasets.readers"
FORMATS: dict[str, Format] = {
    "folder": Format(f"{_HERE}.folder:folder_reader", "a folder of your own pictures"),
    "coco_karpathy": Format(
        f"{_HERE}.karpathy:CocoKarpathyReader", "COCO's captions, Karpathy's splits"
    ),
    "flickr30k_karpathy": Format(
        f"{_HERE}.karpathy:Flickr30kKarpathyReader", "Flickr30k, Karpathy's splits"
    ),
    "flickr8k_karpathy": Format(
        f"{_HERE}.karpathy:Flickr8kKarpathyReader", "Flickr8k, Karpathy's splits"
    ),
    "coco_captions": Format(
        f"{_HERE}.coco_captions:CocoCaptionsReader", "COCO's captions as COCO gives them"
    ),
    "nocaps": Format(f"{_HERE}.coco_captions:NocapsReader", "NoCaps' validation captions"),
    "visual_genome": Format(
        f"{_HERE}.visual_genome:VisualGenomeReader", "Visual Genome's regions as captions"
    ),
    "sbu": Format(f"{_HERE}.sbu:SbuReader", "SBU's captioned photos, their URLs and files"),
    "cc3m": Format(
        f"{_HERE}.conceptual_captions:ConceptualCaptionsReader",
        "Conceptual Captions, the tables and files",
    ),
    "annot_json": Format(
        f"{_HERE}.annot_json:AnnotJsonReader", "CC3M and SBU as VLMo and ViLT list them"
    ),
    "vqav2": Format(f"{_HERE}.vqav2:VqaV2Reader", "VQAv2, questions about COCO's images"),
    "nlvr2": Format(f"{_HERE}.nlvr2:Nlvr2Reader", "NLVR2, statements about two photographs"),
    "question_rows": Format(
        f"{_HERE}.question_rows:QuestionRowsReader", "your own questions about images"
    ),
    "statement_rows": Format(
        f"{_HERE}.statement_rows:StatementRowsReader", "your own statements about two images"
    ),
    "vlmo_arrow": Format(
        f"{_HERE}.vlmo_arrow:VlmoArrowReader", "VLMo's and ViLT's Arrow files of captions"
    ),
    "img2dataset": Format(
        f"{_HERE}.img2dataset:Img2datasetReader", "what img2dataset fetched, in all its forms"
    ),
    "img2dataset_images": Format(
        f"{_HERE}.img2dataset:Img2datasetImagesReader", "the same without captions"
    ),
    "webdataset": Format(
        f"{_HERE}.webdataset:WebdatasetReader", "tars of 1.jpg with 1.txt or 1.json"
    ),
    "webdataset_images": Format(
        f"{_HERE}.webdataset:WebdatasetImagesReader", "the same without captions"
    ),
    "vilbert_lmdb": Format(
        f"{_HERE}.vilbert_lmdb:VilbertLmdbReader", "ViLBERT's regions in LMDB, with captions"
    ),
    "precomp": Format(
        f"{_HERE}.region_arrays:PrecompReader", "SCAN's arrays of 36 regions an image"
    ),
    "bottom_up_tsv": Format(
        f"{_HERE}.region_tables:BottomUpReader", "regions of bottom-up attention's tables"
    ),
    "image_masks": Format(
        f"{_HERE}.image_masks:ImageMasksReader",
        "images with masks of classes in folders, such as ADE20K",
    ),
    "imagenet": Format(
        f"{_HERE}.imagenet:ImagenetReader", "ImageNet-1k, each image with its class"
    ),
    "image_files": Format(
        f"{_HERE}.image_files:ImageFilesReader",
        "images without captions in folders and tars, such as ImageNet",
    ),
}


def make_reader(name: str, source: Path, options: dict[str, str] | None = None) -> Reader:
    """Makes the reader of a format.

    Args:
        name: of `FORMATS`, or "module:Class" of a reader of somebody's own.
        source: the folder of the download.
        options: further arguments of the reader, as texts.

    Returns:
        The reader; nothing was read yet but what it reads when it is made.

    Raises:
        DataError: there is no such format, or it has no such option.
    """
    reader = _reader_class(name)
    known = list(inspect.signature(reader).parameters)[1:]
    for option in options or {}:
        if option not in known:
            raise DataError(
                f"--option {option}: there is none of that name; --format={name} has"
                f" {', '.join(known) or 'no options'}"
            )
    return reader(source, **(options or {}))


def documentation(name: str) -> str:
    """Returns what is said about a format: the docstring of its reader's module; errors as of
    `make_reader`.
    """
    reader = _reader_class(name)
    return inspect.getdoc(inspect.getmodule(reader)) or inspect.getdoc(reader) or ""


def _reader_class(name: str) -> Any:
    if name not in FORMATS and ":" not in name:
        raise DataError(
            f"--format={name} is not known; there are: {', '.join(FORMATS) or 'none'}, and"
            " package.module:Class for a reader of your own"
        )
    path = FORMATS[name].reader if name in FORMATS else name
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(f"--format={name}: {path} cannot be imported: {error}") from error
