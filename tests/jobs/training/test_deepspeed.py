"""The private part of DeepSpeed that `jobs.training.engine` uses still works as the engine expects."""

from __future__ import annotations

import importlib
from importlib import import_module

import deepspeed
import pytest
from deepspeed.accelerator import get_accelerator

SHARED_MEMORY = "deepspeed_shm_comm"


def test_the_table_of_compatible_ops_is_one_dict_that_keeps_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    table = deepspeed.ops.__compatible_ops__
    monkeypatch.setitem(table, SHARED_MEMORY, False)
    assert deepspeed.ops.__compatible_ops__ is table
    assert deepspeed.ops.__compatible_ops__[SHARED_MEMORY] is False


def test_an_op_that_the_table_calls_incompatible_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    class Builder:
        NAME = SHARED_MEMORY
        compiled = False

        def load(self) -> object:
            Builder.compiled = True
            return object()

        def absolute_name(self) -> str:
            return self.NAME

    communication = import_module("deepspeed.comm.torch")  # `from deepspeed.comm import torch` finds torch itself
    monkeypatch.setattr(get_accelerator(), "create_op_builder", lambda name: Builder())
    monkeypatch.setitem(deepspeed.ops.__compatible_ops__, SHARED_MEMORY, True)
    assert communication.build_shm_op() is not None
    assert Builder.compiled
    monkeypatch.setitem(deepspeed.ops.__compatible_ops__, SHARED_MEMORY, False)
    assert communication.build_shm_op() is None


def test_the_op_has_this_name() -> None:
    builder = importlib.import_module("deepspeed.ops.op_builder.cpu").ShareMemCommBuilder
    assert builder.NAME == SHARED_MEMORY
