"""Signals: the names that receivers connect to."""

import pytest
from django.dispatch import Signal

from django_tasks_seq import signals


@pytest.mark.parametrize("name", signals.__all__)
def test_each_signal_is_documented_with_its_arguments(name):
    """Each is a Signal of its own, and the module tells what its receivers get."""
    assert isinstance(getattr(signals, name), Signal)
    assert f"`{name}`" in (signals.__doc__ or "")
    assert len({id(getattr(signals, other)) for other in signals.__all__}) == len(signals.__all__)
