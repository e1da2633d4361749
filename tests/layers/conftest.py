import pytest
from flax import nnx


@pytest.fixture(scope="module", autouse=True)
def without_a_mesh():
    """Layers stand alone here; their logical axes mean something only under a mesh."""
    with nnx.use_eager_sharding(False):
        yield
