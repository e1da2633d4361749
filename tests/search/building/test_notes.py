"""What pictures say of themselves."""

import datetime
import io
import struct

import pytest
from PIL import Image

from vlmo_jax.search.building import notes


def encoded(kind="JPEG", **options):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, kind, **options)
    return file.getvalue()


def exif(description=None, **tags):
    made = Image.Exif()
    if description is not None:
        made[0x010E] = description
    for tag, value in tags.items():
        made.get_ifd(0x8769)[int(tag.removeprefix("x"), 16)] = value
    return made


@pytest.mark.parametrize(
    "tags, day",
    [
        ({"x9003": "2021:07:05 10:00:00"}, datetime.date(2021, 7, 5)),
        ({"x9004": "2020-02-29"}, datetime.date(2020, 2, 29)),
        ({"x9003": "0000:00:00 00:00:00", "x9004": "2019:01:02 1"}, datetime.date(2019, 1, 2)),
        ({"x9003": "not set"}, None),
        ({}, None),
    ],
)
def test_the_day_is_the_cameras(tags, day):
    assert notes.read_notes(encoded(exif=exif(**tags))).taken == day


@pytest.mark.parametrize(
    "description, caption",
    [
        ("  Two   cats\n on a mat ", "Two cats on a mat"),
        ("Zo\u00eb's b\u00fccher".encode(), "Zo\u00eb's b\u00fccher"),
        ("OLYMPUS DIGITAL CAMERA", None),
        ("DSC_0042", None),
        (" \0 ", None),
        ("x" * 5000, "x" * notes.LONGEST),
    ],
)
def test_a_description_of_exif_is_a_caption_unless_a_camera_wrote_it(description, caption):
    assert notes.read_notes(encoded(exif=exif(description))).caption == caption


def test_xmp_comes_before_exif():
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><dc:description><rdf:Alt>'
        '<rdf:li xml:lang="x-default">A &amp; B</rdf:li></rdf:Alt></dc:description></x:xmpmeta>'
    )
    data = encoded(exif=exif("exif"), xmp=packet.encode())
    assert notes.read_notes(data).caption == "A & B"


def test_iptc_is_read():
    record = b"\x1c\x02\x78" + struct.pack(">H", 6) + b"a tree"
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(record)) + record
    payload = b"Photoshop 3.0\0" + resource
    plain = encoded()
    segment = b"\xff\xed" + struct.pack(">H", len(payload) + 2) + payload
    assert notes.read_notes(plain[:2] + segment + plain[2:]).caption == "a tree"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_notes_count_as_none():
    data = encoded(exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert notes.read_notes(data) == notes.Notes(None, None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_text_files_may_have_the_usual_encodings(encoding):
    assert notes.decode("Z\u00fcrich".encode(encoding)) == "Z\u00fcrich"
