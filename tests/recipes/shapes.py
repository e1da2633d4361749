"""Whether batches are what a step is compiled for."""


def assert_fits(batch, recipe):
    """A batch has the columns of the data, and those that the step reads are as it wants them."""
    columns, wanted = recipe.data.rows.columns, recipe.abstract_batch()
    assert set(batch) == set(columns) and set(wanted) <= set(columns)
    for name, shape in wanted.items():
        assert (batch[name].shape, batch[name].dtype) == (shape.shape, shape.dtype), name
