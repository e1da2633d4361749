"""Says what the bytes of a file are, by how they begin, for messages about wrong names."""

import re

_LFS = b"version https://git-lfs.github.com/spec/"
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")

# How a file begins, what it is, and what to do about it.
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (_LFS, "a Git LFS pointer, not the file itself", "fetch the files with: git lfs pull"),
    (b"%PDF", "a PDF document", "save its pages as JPEG or PNG"),
    (b"%!PS", "a PostScript drawing", "save it as PNG"),
    (b"PK\x03\x04", "a zip archive (or an office document)", "unpack it first"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"BZh", "a bzip2 archive", "unpack it first"),
    (b"\xfd7zXZ", "an xz archive", "unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (b"PAR1", "a Parquet table", "save it as CSV or JSON lines"),
    (b"\xd0\xcf\x11\xe0", "an old office document", "save it in another format"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video", "take single pictures out of it"),
    (b"FLV", "a Flash video", "take single pictures out of it"),
    (b"OggS", "an Ogg sound or video", "leave it out"),
    (b"ID3", "an MP3 sound", "leave it out"),
    (b"8BPS", "a Photoshop document", "save it as JPEG or PNG"),
    (b"gimp xcf", "a GIMP document", "save it as JPEG or PNG"),
    (b"\xff\x0a", "a JPEG XL picture", "convert it to JPEG or PNG"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture", "convert it to JPEG or PNG"),
    (b"\0\0\x01\0", "an icon (ICO)", "convert it to PNG"),
    (b"\x89HDF", "an HDF5 file", "save the pictures one by one"),
    (b"\x93NUMPY", "a NumPy array", "save the pictures one by one"),
    (b"\x7fELF", "a program", "leave it out"),
)
_TRUNCATED_BEGINNINGS = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


def describe_contents(data: bytes) -> str:
    """Returns what the bytes are and the cure, such as "a PDF document; save its pages as JPEG";
    "" where they are unknown.

    Args:
        data: the file, or its first 4 KiB.
    """
    if not data:
        return "an empty file; copy or download it again"
    if not data.strip(b"\0"):
        return "a file of zeros; copy or download it again"
    for beginning, what, cure in _BEGINNINGS:
        if data.startswith(beginning):
            return f"{what}; {cure}"
    if data[4:8] == b"ftyp":
        return _describe_media(data[8:12])
    if data[:4] == b"RIFF" and data[8:12] in (b"AVI ", b"WAVE"):
        return "an AVI video or a WAVE sound; leave it out"
    if data.startswith(_TRUNCATED_BEGINNINGS):
        return ""
    return _describe_text(data[:4096])


def _describe_media(brand: bytes) -> str:
    if brand in _HEIF_BRANDS:
        return "a HEIC picture; convert it first, for example with: heif-convert IN.heic OUT.jpg"
    if brand in _AVIF_BRANDS:
        return (
            "an AVIF picture, which the installed Pillow cannot read; update it or convert to PNG"
        )
    return "an MP4 or QuickTime video; take single pictures out of it"


def _describe_text(data: bytes) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = data.decode(encoding, "replace").removeprefix("\ufeff").lstrip()
    if not text or text.count("\ufffd") > 3 or any(c < " " and not c.isspace() for c in text):
        return ""
    lower = text.lower()
    # A drawing may begin with a declaration, comments and a document type.
    if re.match(r"(<\?xml.*?\?>|<!--.*?-->|<!doctype svg.*?>|\s)*<(\w+:)?svg[\s>]", lower, re.S):
        return "an SVG drawing; convert it first, for example with: rsvg-convert IN.svg -o OUT.png"
    again = "download the file again"
    if re.match(r"(<\?xml.*?\?>|<!--.*?-->|\s)*<(!doctype html|html|head|body)", lower, re.S):
        return f"an HTML page, mostly the error page of a server; {again}"
    if lower.startswith("<"):
        return f"XML, mostly the error message of a server; {again}"
    if lower.startswith(("{", "[")):
        return f"JSON, mostly the error message of a server; {again}"
    return f"text that begins with {' '.join(text[:40].split())!r}; {again}"
