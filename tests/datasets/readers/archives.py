"""Downloads in the official forms, made small: what the readers of archives are tested on."""

import io
import json
import shutil
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq

from tests.paths import ROOT

IMG2DATASET = ROOT / "tests" / "data" / "formats" / "img2dataset"
COMPLETION_ORDER = ("000000005", "000000000", "000000004", "000000002")


def write_tar(path, members):
    """A tar of (name, bytes or a TarInfo of another type); returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, bytes):
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            else:
                info.type, info.linkname = data
                archive.addfile(info)
    return path


def rows():
    """Those of the shard's table."""
    lines = (IMG2DATASET / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def files_of(key, encoded_image):
    """The names and bytes of a sample: its image, .txt and .json."""
    image = encoded_image(int(key), "JPEG", (16, 12))
    texts = [(IMG2DATASET / "00000" / f"{key}{end}").read_bytes() for end in (".txt", ".json")]
    return [(f"{key}.jpg", image), (f"{key}.txt", texts[0]), (f"{key}.json", texts[1])]


def write_table(path, table_rows, **columns):
    """The shard's Parquet file in row groups of three."""
    table = pa.Table.from_pylist(table_rows)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values, pa.binary()))
    pq.write_table(table, path, row_group_size=3)


def write_shard(root, form, encoded_image, name="00000"):
    """A finished shard of img2dataset; returns its folder.

    Args:
        root: where to.
        form: webdataset, files or parquet.
        encoded_image: the fixture.
        name: of the shard.
    """
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(IMG2DATASET / "00000_stats.json", root / f"{name}_stats.json")
    samples = {key: files_of(key, encoded_image) for key in COMPLETION_ORDER}
    if form == "parquet":
        found = [samples[row["key"]][0][1] if row["key"] in samples else None for row in rows()]
        write_table(root / f"{name}.parquet", rows(), jpg=found)
        return root
    write_table(root / f"{name}.parquet", rows())
    if form == "webdataset":
        write_tar(root / f"{name}.tar", [file for files in samples.values() for file in files])
    else:
        (root / name).mkdir()
        for file, data in [file for files in samples.values() for file in files]:
            (root / name / file).write_bytes(data)
    return root
