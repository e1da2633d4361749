import io

from PIL import Image

from vlmo_jax.input import benchmark


def test_synthetic_photos_are_jpegs_of_a_real_size_and_always_the_same():
    first, second = (benchmark.synthetic_photos(3, distinct=2) for _ in range(2))
    assert first == second and first[0].image == first[2].image != first[1].image
    image = Image.open(io.BytesIO(first[0].image))
    assert image.format == "JPEG" and image.size == (640, 480) and image.mode == "RGB"
    assert 50_000 < len(first[0].image) < 300_000


def test_pairs_are_measured_in_small_batches_of_few_records(make_records, tokenizer):
    speed = benchmark.benchmark_pairs(
        make_records(6), tokenizer, image_size=16, text_length=8, batch_size=128, seconds=0.01
    )
    assert speed.rate.records_per_second > 0 and speed.parts["captions, tokens, masks"] > 0
