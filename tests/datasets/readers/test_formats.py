import pytest

from tests.paths import ROOT
from vlmo_jax.datasets import readers
from vlmo_jax.datasets.errors import DataError


@pytest.mark.parametrize("name", list(readers.FORMATS))
def test_every_format_can_be_imported_and_is_documented(name):
    assert len(readers.documentation(name)) > 200 and readers.FORMATS[name].about


def test_an_unknown_format_is_refused():
    with pytest.raises(DataError, match="--format=nothing is not known; there are"):
        readers.make_reader("nothing", None)
    with pytest.raises(DataError, match="cannot be imported: No module named 'no_such'"):
        readers.make_reader("no_such.module:Reader", None)


def test_the_table_of_the_documents_has_them_all():
    text = (ROOT / "docs" / "DATASETS.md").read_text()
    assert [name for name in readers.FORMATS if f"`{name}`" not in text] == []
