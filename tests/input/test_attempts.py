"""What counts as a broken record, and what the machine is to blame for."""

import errno
import os

import pytest

from vlmo_jax.datasets import BrokenRecordError
from vlmo_jax.datasets.record_sources import RecordSource
from vlmo_jax.input.attempts import UnusableRecordError, read_record


class Failing:
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.error


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EACCES])
def test_the_machine_is_no_broken_record(number):
    with pytest.raises(OSError) as end:
        read_record(Failing(OSError(number, os.strerror(number))), 0)
    assert end.value.errno == number


@pytest.mark.parametrize("error", [BrokenRecordError("damaged"), OSError(errno.EIO, "bad disk")])
def test_a_damaged_record_is_broken(error):
    with pytest.raises(UnusableRecordError):
        read_record(Failing(error), 0)


def test_what_a_reader_says_in_words_is_understood(tmp_path):
    source = RecordSource(tmp_path, "train", Failing(RuntimeError("Too many open files")), int)
    with pytest.raises(OSError) as end:
        source[0]
    assert end.value.errno == errno.EMFILE
    source = RecordSource(tmp_path, "train", Failing(RuntimeError("CRC differs")), int)
    with pytest.raises(BrokenRecordError, match="CRC differs"):
        source[0]
