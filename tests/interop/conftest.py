import pytest

from vlmo_jax.interop.tensor_files import write_safetensors


@pytest.fixture
def source(tmp_path):
    """Writes tensors to a file of the temporary folder, and says where."""

    def write(tensors, name="source.safetensors"):
        write_safetensors(tmp_path / name, tensors)
        return tmp_path / name

    return write
