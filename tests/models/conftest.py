"""What tests of estimators have in common."""

import pytest

from itembed_gpu.models import estimator
from itembed_gpu.training.loop import History


@pytest.fixture
def trained(monkeypatch):
    """Tasks and settings that are passed to `train`, which does nothing."""
    calls = []

    def note(task, **settings):
        calls.append((task, settings))
        return History()

    monkeypatch.setattr(estimator, "train", note)
    return calls
