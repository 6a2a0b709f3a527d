"""A file that is damaged, foreign or means harm is refused in words, and nothing of it runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from policies_to_export import exported

from pistar.errors import ArtefactError
from pistar.export import ExportedPolicy, seal


def data_of(name: str = "policy linear-softmax") -> bytes:
    return exported(name)[2]


def refused(data: bytes, words: str = ".") -> None:
    with pytest.raises(ArtefactError, match=words):
        ExportedPolicy.from_bytes(data, "a.onnx")


def remade(change: Callable[[Any], None], name: str = "policy linear-softmax") -> bytes:
    """The file after a change to its model, sealed as by one who knows how."""
    model = onnx.load_from_string(data_of(name)[: -seal.LENGTH])
    change(model)
    return seal.seal(model.SerializeToString())


def told(change: Callable[[dict[str, Any]], None], name: str = "policy linear-softmax") -> bytes:
    """The file after a change to its metadata."""

    def alter(model: Any) -> None:
        (entry,) = model.metadata_props
        record = json.loads(entry.value)
        change(record)
        entry.value = json.dumps(record)

    return remade(alter, name)


def test_a_file_as_it_was_written_is_read() -> None:
    assert ExportedPolicy.from_bytes(remade(lambda model: None)).has_memory is False


def test_any_byte_that_changes_and_any_cut_is_noticed() -> None:
    data, generator = data_of(), np.random.default_rng(0)
    for place in generator.integers(len(data), size=400):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(generator.integers(8))
        refused(bytes(damaged))
    for length in generator.integers(len(data), size=100):
        refused(data[:length])
    for noise in (b"", b"\x00", os.urandom(1000), data + b"\x00", data * 2):
        refused(noise)


def test_sealed_nonsense_is_refused_in_words_and_never_crashes() -> None:
    body, generator = data_of()[: -seal.LENGTH], np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(body)
        for place in generator.integers(len(body) if generator.random() < 0.5 else 400, size=generator.integers(1, 8)):
            damaged[place] = int(generator.integers(256))
        try:
            policy = ExportedPolicy.from_bytes(seal.seal(bytes(damaged)))
        except ArtefactError:
            continue
        assert policy.spaces.action == exported("policy linear-softmax")[1].spaces.action  # another weight, say
    for length in (0, 1, 100, len(body) // 2):
        refused(seal.seal(body[:length]))
    refused(seal.seal(os.urandom(500)))


def test_weights_in_other_files_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    def move(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../../etc/passwd")

    def only_marked(model: Any) -> None:
        model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL

    def in_a_constant(model: Any) -> None:
        tensor = onnx.numpy_helper.from_array(np.zeros(3, np.float32))
        tensor.external_data.add(key="location", value="/etc/passwd")
        model.graph.node.append(onnx.helper.make_node("Constant", [], ["c"], value=tensor))

    for change in (move, only_marked, in_a_constant):
        refused(remade(change), "weights in other files")


def loop() -> Any:
    body = onnx.helper.make_graph([], "body", [], [])
    return onnx.helper.make_node("Loop", ["a"], ["b"], body=body)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.graph.node.append(loop()), "control flow"),
        (lambda m: m.functions.add(name="f", domain="own"), "functions of its own"),
        (lambda m: m.opset_import.add(domain="com.example", version=1), "domain b'com.example'"),
        (lambda m: m.graph.node.append(onnx.helper.make_node("Op", [], ["c"], domain="ai.own")), "domain b'ai.own'"),
        (lambda m: m.graph.sparse_initializer.add(), "sparse"),
        (lambda m: m.training_info.add(), "training"),
        (lambda m: m.graph.output.pop(), "outputs"),
        (lambda m: m.graph.node.pop(), "onnxruntime cannot load"),
        (lambda m: m.graph.node.append(onnx.helper.make_node("NoSuch", [], ["c"])), "onnxruntime cannot load"),
        (lambda m: m.metadata_props.pop(), "says nothing of a policy"),
        (lambda m: setattr(m.metadata_props[0], "value", "{"), "no JSON"),
        (lambda m: setattr(m.metadata_props[0], "value", "[" * 100_000), "no JSON"),
        (lambda m: setattr(m.metadata_props[0], "value", '{"a": NaN}'), "NaN is not JSON"),
        (lambda m: setattr(m.metadata_props[0], "value", "[]"), "not that of a pistar-onnx file"),
    ],
)
def test_what_reaches_beyond_a_graph_is_refused(change: Callable[[Any], None], words: str) -> None:
    refused(remade(change), words)


def port(side: str, index: int, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record[side][index].update(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(version=2), "format version 2"),
        (lambda r: r.update(format="other"), "not that of a pistar-onnx file"),
        (lambda r: r.pop("observation_space"), "lacks observation_space"),
        (lambda r: r.update(inputs={}), "lacks inputs"),
        (lambda r: r["observation_space"].update(kind="module:Class"), "unknown kind of space"),
        (lambda r: r["observation_space"].update(shape=[2**40]), "malformed space"),
        (lambda r: r["observation_space"].update(shape=[4]), "inputs are not those of its observation space"),
        (lambda r: r["action_space"].update(dtype="int32"), "not those of its action space"),
        (port("inputs", 0, role="secret"), "cannot be understood"),
        (port("inputs", 0, shape=[-1]), "cannot be understood"),
        (port("inputs", 0, shape=[True]), "cannot be understood"),
        (port("inputs", 0, name=3), "cannot be understood"),
        (port("inputs", 0, extra=3), "cannot be understood"),
        (port("inputs", 1, noise="cauchy"), "cannot be understood"),
        (port("inputs", 1, shape=[7]), "noise.0 is tensor"),
        (port("inputs", 1, dtype="float64"), "noise.0 is tensor"),
        (port("outputs", 2, shape=[5]), "distribution.probability is tensor"),
        (lambda r: r["inputs"].pop(), "its graph has the inputs"),
        (lambda r: r["outputs"].pop(), "not among its outputs"),
        (lambda r: r.update(sampling="no"), "contradicts"),
        (lambda r: r.update(distribution=[3]), "not among its outputs"),
        (lambda r: r["distribution"][0]["parameters"].update(probability="action"), "not among its outputs"),
    ],
)
def test_metadata_that_does_not_hold_is_refused(change: Callable[[Any], None], words: str) -> None:
    refused(told(change), words)


def test_a_memory_that_does_not_come_out_as_it_goes_in_is_refused() -> None:
    def rename(record: dict[str, Any]) -> None:
        next(p for p in record["inputs"] if p["role"] == "memory")["path"] = ["other"]

    refused(told(rename, "memory gru"), "memory does not go in as it comes out")


def test_the_graph_runs_once_before_it_is_believed() -> None:
    def square(model: Any) -> None:  # an output whose length is not what its type says
        name = model.graph.output[2].name
        for node in model.graph.node:
            node.output[:] = ["before" if each == name else each for each in node.output]
        model.graph.node.append(onnx.helper.make_node("Transpose", ["before"], [name]))
        del model.graph.output[2].type.tensor_type.shape.dim[:]
        for size in ("batch", 4):
            dim = model.graph.output[2].type.tensor_type.shape.dim.add()
            dim.dim_param, dim.dim_value = ("n", 0) if size == "batch" else ("", size)

    refused(remade(square))


@pytest.mark.parametrize("text", ["", "pistar"])
def test_what_is_no_such_file_is_said(text: str, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="No such file"):
        ExportedPolicy.load(tmp_path / "missing.onnx")
    with pytest.raises(ArtefactError, match="Is a directory"):
        ExportedPolicy.load(tmp_path)
    (tmp_path / "a.onnx").write_text(text)
    with pytest.raises(ArtefactError, match="not a whole file of `pistar export`"):
        ExportedPolicy.load(tmp_path / "a.onnx")
