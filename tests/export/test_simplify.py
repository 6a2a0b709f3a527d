"""Nodes that do nothing are taken out, and only those: what a graph computes stays as it was, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from policies_to_export import exported

from pistar.export.simplify import simplify

FLOAT = onnx.TensorProto.FLOAT
ROW = np.array([0.5, -2.0, 3.0], np.float32)


def graph(nodes: list[tuple[str, list[str], str]], constants: dict[str, Any], width: int = 3, out: int = 3) -> Any:
    made = helper.make_graph(
        [helper.make_node(kind, given, [result], name=f"{kind}/{i}") for i, (kind, given, result) in enumerate(nodes)],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", out])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: Any, width: int) -> Any:
    onnx.checker.check_model(model, full_check=True)
    x = np.linspace(-9, 9, 7 * width, dtype=np.float32).reshape(7, width)
    (y,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    return y


INF = float("inf")
CASES: dict[str, tuple[list[tuple[str, list[str], str]], dict[str, Any], int, list[str]]] = {
    "neutral, on either side": (
        [("Mul", ["one", "x"], "a"), ("Add", ["a", "nil"], "b"), ("Max", ["b", "low"], "c"), ("Tanh", ["c"], "y")],
        {"one": [1, 1, 1], "nil": 0, "low": [-INF] * 3},
        3,
        ["Tanh"],
    ),
    "not neutral": (
        [("Mul", ["one", "x"], "a"), ("Add", ["a", "nil"], "b"), ("Max", ["b", "low"], "c"), ("Tanh", ["c"], "y")],
        {"one": [1, 1, 2], "nil": 1e-3, "low": [-INF, 0, 0]},
        3,
        ["Mul", "Add", "Max", "Tanh"],
    ),
    "broadcasting is no nothing": (
        [("Mul", ["one", "x"], "a"), ("Tanh", ["a"], "y")],
        {"one": [1, 1, 1]},
        1,
        ["Mul", "Tanh"],
    ),
    "an output keeps its name": ([("Tanh", ["x"], "a"), ("Mul", ["a", "one"], "y")], {"one": 1}, 3, ["Tanh", "Mul"]),
    "clipping at one bound for all": (
        [("Max", ["x", "low"], "a"), ("Min", ["a", "high"], "y")],
        {"low": [-2, -2, -2], "high": 3},
        3,
        ["Clip"],
    ),
    "clipping at bounds of each": (
        [("Max", ["x", "low"], "a"), ("Min", ["a", "high"], "y")],
        {"low": [-2, -2, -1], "high": 3},
        3,
        ["Max", "Min"],
    ),
    "clipping that broadcasts": (
        [("Max", ["x", "low"], "a"), ("Min", ["a", "high"], "y")],
        {"low": [-2, -2, -2], "high": 3},
        1,
        ["Max", "Min"],
    ),
    "what is read between": (
        [("Max", ["x", "low"], "a"), ("Min", ["a", "high"], "b"), ("Mul", ["a", "b"], "y")],
        {"low": -2, "high": 3},
        3,
        ["Max", "Min", "Mul"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_only_what_does_nothing_goes(name: str) -> None:
    nodes, constants, width, left = CASES[name]
    model = graph(nodes, constants, width)
    before = run(model, width)
    simplify(model)
    assert [node.op_type for node in model.graph.node] == left
    np.testing.assert_array_equal(run(model, width), before)
    read = {each for node in model.graph.node for each in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= read


def test_a_gaussian_policy_has_few_nodes() -> None:
    """Every one costs about 0.4 µs at one row."""
    model = onnx.load_from_string(exported("family gaussian")[2])
    assert len(model.graph.node) <= 21
