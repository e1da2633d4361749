import json
import shutil

import pytest

from tests.datasets.readers import downloads
from tests.paths import DATA
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers import visual_genome
from vlmo_jax.datasets.readers.coco_ids import coco_id_of

IMAGES = {
    "images/VG_100K/2.jpg": "JPEG",
    "images/VG_100K/4.jpg": "JPEG",
    "images/VG_100K_2/1.jpg": "PNG",
}


@pytest.fixture
def genome(tmp_path):
    return downloads.unpack("visual_genome", tmp_path / "vg", IMAGES)


def _edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_regions_are_captions_of_the_image(genome):
    reader = visual_genome.VisualGenomeReader(genome)
    found, missing = downloads.read(reader)
    assert {name: record.texts for name, record in found.items()} == {
        "vg/1": ("the clock is green", "shade is white", "the clock is green"),
        "vg/2/coco/391895": ("red helmet",),
        "vg/4/coco/522418": ("a cat",),
    }
    assert missing == {"vg/3/coco/9": "3.jpg is missing in VG_100K and VG_100K_2"}
    assert reader.left_out() == {"vg/6": "no caption", "vg/5": "no region describes it"}
    assert reader.counts() == {"train": {"images": 4, "captions": 6, "blank captions": 4}}
    assert reader.published == {"train": {"images": 108_077}}
    assert "splits are among them" in reader.description
    assert [coco_id_of(name) for name in found] == [None, 391895, 522418]


def test_images_of_cocos_evaluation_are_kept_out(genome):
    (genome / "karpathy").mkdir()
    karpathy = genome / "karpathy/dataset_coco.json"
    shutil.copy(DATA / "formats/coco_karpathy/dataset_coco.json", karpathy)
    reader = visual_genome.VisualGenomeReader(genome)
    assert downloads.splits(reader) == {"train": ["vg/1", "vg/3/coco/9"]}
    assert reader.left_out() == {"vg/5": "no region describes it", "vg/6": "no caption"}
    assert reader.counts() == {
        "train": {
            "images": 2,
            "captions": 4,
            "blank captions": 4,
            "kept out: COCO's Karpathy test": 1,
            "kept out: COCO's Karpathy validation": 1,
        }
    }
    assert "splits are kept out" in reader.description
    assert karpathy in reader.sources()


def test_version_1_0_names_ids_otherwise(genome):
    before = downloads.read(visual_genome.VisualGenomeReader(genome))

    def rename(document):
        for entry in document:
            if "regions" in entry:
                entry["image_id"] = entry.pop("id")
                for region in entry["regions"]:
                    region |= {"id": region.pop("region_id"), "image": region.pop("image_id")}
            else:
                entry["id"] = entry.pop("image_id")

    for name in ("image_data.json", "region_descriptions.json"):
        _edit(genome / "annotations" / name, rename)
    assert downloads.read(visual_genome.VisualGenomeReader(genome)) == before


def test_one_folder_of_images_is_enough(genome):
    shutil.move(genome / "images/VG_100K_2/1.jpg", genome / "images/VG_100K/1.jpg")
    (genome / "images/VG_100K_2").rmdir()
    found, missing = downloads.read(visual_genome.VisualGenomeReader(genome))
    assert len(found) == 3
    assert missing == {"vg/3/coco/9": "3.jpg is missing in VG_100K"}


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("region_descriptions", lambda d: d[1].update(id=77), "has a region of image 2"),
        (
            "region_descriptions",
            lambda d: d.append({"id": 9, "regions": []}),
            "entry 6 is about image 9, which .*image_data.json does not list; take both files of",
        ),
        (
            "region_descriptions",
            lambda d: d.append(d[0]),
            "entry 6 is about image vg/1, and so is .* entry 1; take",
        ),
        ("region_descriptions", lambda d: d[0]["regions"][0].pop("phrase"), "has no 'phrase'"),
        ("region_descriptions", lambda d: d[0].pop("regions"), "has no key regions, only"),
        (
            "image_data",
            lambda d: d[4].update(image_id=1),
            "entry 5 lists image 1, and so does .* entry 1; delete",
        ),
        ("image_data", lambda d: d[0].update(coco_id="x"), "has coco_id='x', which is no whole"),
    ],
)
def test_what_is_wrong_is_named(genome, name, change, message):
    path = genome / f"annotations/{name}.json"
    _edit(path, change)
    with pytest.raises(DataError, match=message) as error:
        list(visual_genome.VisualGenomeReader(genome).entries())
    assert str(path) in str(error.value)


def test_files_that_are_not_there(genome):
    reader = visual_genome.VisualGenomeReader(genome)
    shutil.rmtree(genome / "images")
    with pytest.raises(MissingDataError, match="has no folder VG_100K or VG_100K_2"):
        list(reader.entries())
    (genome / "annotations/image_data.json").unlink()
    with pytest.raises(MissingDataError, match="has no image_data.json, .*one version"):
        visual_genome.VisualGenomeReader(genome)


def test_folders_that_lead_in_circles_end(genome):
    (genome / "images/VG_100K/again").symlink_to(genome / "images/VG_100K")
    assert len(downloads.read(visual_genome.VisualGenomeReader(genome))[0]) == 3
