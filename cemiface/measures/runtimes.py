"""ONNX and TFLite nets, run one face at a time on one thread, so that an answer depends on that face alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from cemiface.errors import ModelError
from cemiface.measures.net_cards import AttributeNet, NetInput, Output

FATAL_ONLY = 4  # onnxruntime's log level; errors are raised as well
NO_FOLDER = f"{os.devnull}/none"


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """An open net: from its input (1, ...) float32 to its output tensors by name, flattened."""

    run: Callable[[np.ndarray], dict[str, np.ndarray]]


def open_net(net: AttributeNet) -> Runtime:
    """Open the net's file, and run it once to compare it with its card; raises ModelError in one line."""
    data = net.read()
    opener = _open_onnx if net.card.file.endswith(".onnx") else _open_tflite
    try:
        runtime = opener(data)
        given = runtime.run(np.zeros(_shape(net.card.input), dtype=np.float32))
    except Exception as error:  # the runtimes raise what they like for files that they cannot run
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"{net.path.parent / net.card.file}: cannot be run as its card says: {reason}") from None
    for output in net.card.outputs:
        _check_output(output, given, net=net)
    return runtime


def _shape(form: NetInput) -> tuple[int, ...]:
    return (1, 3, form.size, form.size) if form.layout == "NCHW" else (1, form.size, form.size, 3)


def _check_output(output: Output, given: dict[str, np.ndarray], *, net: AttributeNet) -> None:
    if output.tensor not in given and (output.tensor or len(given) > 1):
        known = ", ".join(given)
        raise ModelError(f"{net.path}: outputs.{output.name}.tensor: got {output.tensor!r}; allowed: {known}")
    found = numbers(output, given).size
    if output.kind != "raw" and found != output.count:
        raise ModelError(f"{net.path}: outputs.{output.name}: needs {output.count} numbers; the net gives {found}")


def numbers(output: Output, given: dict[str, np.ndarray]) -> np.ndarray:
    """The numbers of an output."""
    tensor = given[output.tensor] if output.tensor else next(iter(given.values()))
    return tensor[output.first : output.first + output.count]


def _open_onnx(data: bytes) -> Runtime:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    # Not the optimizations that choose a memory layout by the processor.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    # A model may name further files for its weights, looked for in the current folder. The card's sha256 does not cover
    # them, so they are looked for where there are none.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NO_FOLDER)
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]

    def run(face: np.ndarray) -> dict[str, np.ndarray]:
        arrays = session.run(names, {source.name: face})
        return {name: np.asarray(array).reshape(-1) for name, array in zip(names, arrays, strict=True)}

    return Runtime(run=run)


def _open_tflite(data: bytes) -> Runtime:
    # Without XNNPACK, which writes a line to the terminal for every net.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter: Any = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=plain)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    outputs = {found["name"]: found["index"] for found in interpreter.get_output_details()}

    def run(face: np.ndarray) -> dict[str, np.ndarray]:
        interpreter.set_tensor(source["index"], face)
        interpreter.invoke()
        return {name: interpreter.get_tensor(index).reshape(-1) for name, index in outputs.items()}

    return Runtime(run=run)
