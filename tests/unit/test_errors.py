"""An error's sentence and its values cannot drift apart."""

import pytest

from kloros import errors
from kloros.errors import AlreadyRunning, KlorosError


def test_an_error_reads_as_a_sentence_and_carries_its_values() -> None:
    error = AlreadyRunning(name="scheduler", pid=12, since="noon", lock="/run/x.lock")
    assert str(error).startswith("A scheduler is already running here (process 12, since noon")
    assert error.pid == 12
    with pytest.raises(AttributeError):
        _ = error.colour


def test_every_error_of_the_tree_has_a_sentence() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, KlorosError)]
    assert len(classes) > 5
    assert all(cls.__doc__ and cls.exit_code in {1, 2, 3, 4} for cls in classes)
