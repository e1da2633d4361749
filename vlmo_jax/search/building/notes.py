"""What a picture says of itself beside its pixels: the day that it was taken, and a caption."""

import contextlib
import datetime
import html
import io
import re
from typing import Any, NamedTuple

from PIL import ExifTags, Image, IptcImagePlugin

from vlmo_jax.datasets.images import FORMATS

LONGEST = 1000  # characters of a caption that are kept
_HEADER = 1 << 16  # bytes of XMP that are looked at for the caption
_IPTC_CAPTION = (2, 120)
_XMP_CAPTION = re.compile(
    r"<dc:description>.*?<rdf:li[^>]*>(.*?)</rdf:li>|dc:description\s*=\s*\"(.*?)\"", re.S
)
# What cameras put where a description should be.
_OF_CAMERAS = re.compile(
    r"(olympus|sony|samsung|kodak|minolta|konica|pentax|casio|digital|camera|dsc|dcf|\d|\W|_)+"
    r"|default|untitled|screenshot|created with gimp",
    re.I,
)


class Notes(NamedTuple):
    """What a file says.

    Attributes:
        taken: the day, None where it does not say.
        caption: None where it has none.
    """

    taken: datetime.date | None = None
    caption: str | None = None


def read_notes(data: bytes) -> Notes:
    """Reads what a file says of itself; what is damaged in it counts as not said.

    Args:
        data: of a file that can be decoded.
    """
    exif: Any = {}
    captions: list[str | None] = []
    # Of damaged notes Pillow raises nearly anything; the picture itself is sound.
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        with contextlib.suppress(Exception):
            captions.append(_of_xmp(image.info.get("xmp")))
        with contextlib.suppress(Exception):
            captions.append(_of_iptc(IptcImagePlugin.getiptcinfo(image)))
        exif = image.getexif()
        captions += [_text(exif.get(ExifTags.Base.ImageDescription))]
        exif = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    caption = next((one for one in map(clean, captions) if one), None)
    return Notes(_day(exif), None if caption and _OF_CAMERAS.fullmatch(caption) else caption)


def clean(text: str | None) -> str | None:
    """A caption in one line, None where nothing is left of it."""
    if not text:
        return None
    return " ".join(text.replace("\0", " ").split())[:LONGEST] or None


def decode(data: bytes) -> str:
    """Text of a file, in the encodings that people use."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _day(exif: Any) -> datetime.date | None:
    for tag in (ExifTags.Base.DateTimeOriginal, ExifTags.Base.DateTimeDigitized):
        found = re.match(r"(\d{4})[:\-/](\d\d)[:\-/](\d\d)", _text(exif.get(tag)) or "")
        if found:
            with contextlib.suppress(ValueError):  # cameras without a clock: 0000:00:00
                return datetime.date(*map(int, found.groups()))
    return None


def _text(value: Any) -> str | None:
    """A note; Pillow decodes those of EXIF as Latin-1, and most are UTF-8 by now."""
    if isinstance(value, bytes):
        return decode(value)
    if not isinstance(value, str):
        return None
    with contextlib.suppress(UnicodeError):
        return value.encode("latin-1").decode("utf-8")
    return value


def _of_xmp(packet: Any) -> str | None:
    if isinstance(packet, bytes):
        packet = packet[:_HEADER].decode("utf-8", "replace")
    found = _XMP_CAPTION.search(packet[:_HEADER]) if isinstance(packet, str) else None
    return html.unescape(found[1] or found[2] or "") if found else None


def _of_iptc(fields: Any) -> str | None:
    value = (fields or {}).get(_IPTC_CAPTION)
    return _text(value[0] if isinstance(value, list) else value)
