from vlmo_jax.datasets.left_out import left_out_table, summarize_left_out


def test_what_was_left_out_is_a_line_each_whatever_its_name():
    names = {"a\tb\n\u2028.jpg": "no\nimage", "\udcff.png": "no name"}
    assert left_out_table(names) == (
        "a\\tb\\n\\u2028.jpg\tno image\n\\udcff.png\tno name\n"  # the tab between, no other
    )


def test_ten_are_shown():
    said = summarize_left_out({f"{i}.jpg": "missing" for i in range(12)})
    assert said.splitlines()[9:] == ["  9.jpg: missing", "  and 2 more"]
