import io

from PIL import Image

from vlmo_jax.input import benchmark


def test_synthetic_photos_are_jpegs_of_a_real_size_and_always_the_same():
    first, second = (benchmark.synthetic_photos(3, distinct=2) for _ in range(2))
    assert first == second and first[0].image == first[2].image != first[1].image
    image = Image.open(io.BytesIO(first[0].image))
    assert image.format == "JPEG" and image.size == (640, 480) and image.mode == "RGB"
    assert 50_000 < len(first[0].image) < 300_000


def test_every_stage_is_measured(make_records, tokenizer):
    stages = benchmark.benchmark_input(
        make_records(6), tokenizer, image_size=16, text_length=8, batch_size=4, seconds=0.01
    )
    assert [stage.name for stage in stages][:2] == ["read", "decode"] and stages[
        -1
    ].name == "all, pipeline"
    assert all(abs(stage.milliseconds * stage.records_per_second - 1000) < 1e-6 for stage in stages)
    cost = {stage.name: stage.milliseconds for stage in stages}
    assert cost["all, one thread"] > cost["decode"] > cost["read"]
    table = benchmark.format_stages("title", stages)
    assert table.splitlines()[0] == "title" and len(table.splitlines()) == len(stages) + 2
