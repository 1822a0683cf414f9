from __future__ import annotations

import pytest

from cemiface.recognition.config import RecognitionConfig
from cemiface.recognition.cost import recognition_cost


def test_cost_of_irse50_matches_the_papers_log():
    cost = recognition_cost(RecognitionConfig(net="irse50"))
    assert cost["net"] == "irse50"
    assert cost["parameters"] == 43_813_568
    assert cost["gmacs"] == pytest.approx(6.32, abs=0.005)
