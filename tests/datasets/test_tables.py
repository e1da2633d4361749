from vlmo_jax.datasets import tables


def test_columns_stand_under_each_other():
    assert (
        tables.format_table(("split", "n"), [("train", 12345), ("b", 7)])
        == "split       n\ntrain  12,345\nb           7"
    )
