from __future__ import annotations

import pytest

from cemiface.recognition.config import RecognitionConfig
from cemiface.recognition.cost import recognition_cost


def test_irse50_costs_what_the_papers_log_shows():
    cost = recognition_cost(RecognitionConfig(net="irse50"))
    assert cost["net"] == "irse50"
    assert cost["parameters"] == 43_813_568
    assert cost["gmacs"] == pytest.approx(6.32, abs=0.005)
