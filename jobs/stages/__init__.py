"""The stages that every method shares: a folder each, `plan.py` and `work.py`; `shared/` holds what several of them use."""
