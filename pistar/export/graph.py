"""From a policy to the bytes of an ONNX graph, and the ports that it has.

torch's exporter follows one step of acting for a batch of 3 with a symbolic size. It is given neutral names, because a port
called like a buffer of the policy makes it write an invalid model without a word; the names of the ports come afterwards, with
all that it says about this machine (paths in stack traces) taken out. Inputs that nothing reads, such as what only a critic
sees, are taken out too.
"""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pistar.assembled import AssembledPolicy
from pistar.errors import MissingExtra, UnsupportedSpace, UsageError
from pistar.export import families
from pistar.export.draws import draws_of, noise_of
from pistar.export.ports import Port, action_ports, assemble, distinct, leaf_spaces, named, observation_ports
from pistar.export.simplify import simplify
from pistar.policy import Policy
from pistar.tree import Tree, leaves, map_leaves

OPSET = 20
ROWS = 3  # of the example that is traced: neither 0 nor 1, which torch takes for constants
SPOKEN = ("torch", "torch.__trace", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")  # their loggers


@dataclass
class Layout:
    """The ports of a policy, what its memory looks like, and what is said of its distribution."""

    inputs: list[Port]
    outputs: list[Port]
    memory: Tree  # of one row; None without a memory
    sampling: str | None  # why sampled actions are refused; None where they are not
    distribution: list[dict[str, Any]] = field(default_factory=list)
    observation: list[Port] = field(default_factory=list)  # of all entries, those that nothing reads among them

    def __post_init__(self) -> None:
        self.observation = self.of("observation")

    def of(self, role: str) -> list[Port]:
        """The inputs of a role."""
        return [port for port in self.inputs if port.role == role]


class Step(nn.Module):
    """One step of acting as a function of the inputs' tensors, in order, to the outputs', in order."""

    def __init__(self, policy: Policy, layout: Layout) -> None:
        super().__init__()
        self.policy, self.layout = policy, layout

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """[N, ...] each -> [N, ...] each."""
        given = {port.name: x for port, x in zip(self.layout.inputs, inputs, strict=True)}
        return tuple(evaluate(self.policy, self.layout, given).values())


def evaluate(policy: Policy, layout: Layout, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The outputs by name, as torch computes them: the contract of the file in one function."""
    outputs, after = tower_outputs(policy, layout, given)
    distribution, batch = policy.head(outputs), outputs.shape[0]
    made = _actions(policy, distribution.mode(), "action")
    if layout.sampling is None:
        noise = noise_of(policy.head, [given[port.name] for port in layout.of("noise")], batch)
        made |= _actions(policy, distribution.sample(noise), "sample")
    made |= {named("next_memory", path): leaf for path, leaf in leaves(after)}
    for path, _, part in families.parts(policy.head, distribution):
        found = families.parameters(part, batch)
        made |= {named("distribution", path, name): value for name, value in found.items()}
    return made


def tower_outputs(policy: Policy, layout: Layout, given: dict[str, Tensor]) -> tuple[Tensor, Tree]:
    """The head's inputs [N, ...], and the memory after the step."""
    seen = {port.path: given[port.name] for port in layout.observation}
    observation = map_leaves(
        lambda x: x.float() if x.is_floating_point() else x, assemble(policy.spaces.observation, seen)
    )
    if layout.memory is None:
        return policy.outputs(observation)
    held = iter([given[port.name] for port in layout.of("memory")])
    return policy.outputs(observation, map_leaves(lambda _: next(held), layout.memory), given["is_first"])


def _actions(policy: Policy, action: Tree, role: str) -> dict[str, Tensor]:
    found = dict(leaves(policy.head.to_environment(action)))
    return {port.name: found[port.path] for port in action_ports(policy.spaces.action, role)}


def plan(policy: Policy) -> Layout:
    """The ports of a policy. Raises UsageError where its memory does not begin with zeros."""
    inputs = observation_ports(policy.spaces.observation)
    memory = actors_memory(policy, 1)
    for path, leaf in leaves(memory):
        if bool((leaf != 0).any()) or leaf.dtype != torch.float32:
            raise UsageError(
                f"the memory {'.'.join(path)} does not begin with zeros of float32, as a file of export says it does"
            )
        inputs.append(Port(named("memory", path), "memory", path, "float32", tuple(leaf.shape[1:])))
    if memory is not None:
        inputs.append(Port("is_first", "reset", (), "bool", ()))
    sampling = None
    try:
        drawn = enumerate(draws_of(policy.head))
        inputs += [Port(f"noise.{i}", "noise", (), "float32", draw.shape, draw.kind, draw.hold) for i, draw in drawn]
    except UnsupportedSpace as error:
        sampling = str(error)
    layout = Layout(distinct(inputs), [], memory, sampling)
    _describe_outputs(policy, layout)
    return layout


def actors_memory(policy: Policy, rows: int) -> Tree:
    """The memory at the start of ``rows`` episodes that acting needs: of a critic with a memory of its own, nothing."""
    memory = policy.initial_memory(rows)
    return {"actor": memory["actor"]} if isinstance(policy, AssembledPolicy) and memory is not None else memory


def _describe_outputs(policy: Policy, layout: Layout) -> None:
    """Fill in the ports of the outputs and the words about the distribution."""
    roles = ("action", "sample")
    known = {port.name: port for role in roles for port in action_ports(policy.spaces.action, role)}
    known |= {
        (name := named("next_memory", path)): Port(name, "memory", path, "", ()) for path, _ in leaves(layout.memory)
    }
    with torch.no_grad():
        given = example(policy, layout)
        found = evaluate(policy, layout, given)
        distribution = policy.head(tower_outputs(policy, layout, given)[0])
    for path, head, part in families.parts(policy.head, distribution):
        names = {word: named("distribution", path, word) for word in families.parameters(part, ROWS)}
        known |= {name: Port(name, "distribution", path, "", (), parameter=word) for word, name in names.items()}
        words = {"path": list(path), "family": families.family(part), "parameters": names}
        layout.distribution.append({**words, "scale": families.scale(head, part)})
    for name, value in found.items():
        dtype = str(value.dtype).removeprefix("torch.")
        layout.outputs.append(Port(**{**vars(known[name]), "dtype": dtype, "shape": tuple(value.shape[1:])}))


def example(policy: Policy, layout: Layout) -> dict[str, Tensor]:
    """Inputs of `ROWS` rows that any policy takes: the first of all choices, zeros, and an even chance."""
    lowest = {path: torch.as_tensor(getattr(leaf, "start", 0)) for path, leaf in leaf_spaces(policy.spaces.observation)}
    made = {}
    for port in layout.inputs:
        value = lowest[port.path] if port.role == "observation" else torch.tensor(0.5 if port.role == "noise" else 0.0)
        made[port.name] = value.to(getattr(torch, port.dtype)).expand(ROWS, *port.shape).contiguous()
    return made


def build(policy: Policy, layout: Layout) -> Any:
    """The onnx ModelProto of a policy in float32; unread inputs leave ``layout``. Raises UsageError where torch cannot follow."""
    onnx = require("onnx")
    require("onnxscript")
    step = Step(policy, layout).eval()
    batch = torch.export.Dim("batch")
    dynamic = {"inputs": tuple({0: batch} for _ in layout.inputs)}
    try:
        with silence(), torch.no_grad():
            program = torch.onnx.export(
                step,
                tuple(example(policy, layout).values()),
                dynamo=True,
                dynamic_shapes=dynamic,
                input_names=[f"in/{index}" for index in range(len(layout.inputs))],
                output_names=[f"out/{index}" for index in range(len(layout.outputs))],
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # whatever torch, or code of the user's that it runs, has to say
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(
            f"torch cannot write this {type(policy).__name__} as an ONNX graph: {words[0]}. Modules of your own may use tensor "
            "operations alone, without asking for values in Python (no .item(), no `if` on a tensor), for any batch size"
        ) from error
    assert program is not None
    model = program.model_proto
    tidy(model, layout)
    simplify(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def tidy(model: Any, layout: Layout) -> None:
    """Give the ports their names, take out what nobody reads and whatever tells of this machine."""
    graph = model.graph
    names = {value.name: f"in/{index}" for index, value in enumerate(graph.input)}
    names |= {tensor.name: f"weight/{tensor.name}" for tensor in graph.initializer}
    for index, node in enumerate(graph.node):
        node.name = f"{node.op_type}/{index}"
        names |= {name: f"value/{name}" for name in node.output if name}
    ports = {f"in/{index}": port.name for index, port in enumerate(layout.inputs)}
    names = {old: ports.get(new, new) for old, new in names.items()}
    names |= {value.name: port.name for value, port in zip(graph.output, layout.outputs, strict=True)}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = names[value.name]
        value.ClearField("doc_string")
        del value.metadata_props[:]
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    graph.name, graph.doc_string, model.doc_string = "policy", "", ""
    model.producer_name, model.producer_version = "pistar", ""
    _drop_unread(graph, layout)


def _drop_unread(graph: Any, layout: Layout) -> None:
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [value for value in graph.input if value.name in read]
    del graph.input[:]
    graph.input.extend(kept)
    layout.inputs = [port for port in layout.inputs if port.name in read]


def single_precision(policy: Policy) -> Policy:
    """A copy in float32 on the CPU, ready to be traced."""
    return copy.deepcopy(policy).cpu().float().eval()


def require(package: str) -> Any:
    """An optional package of the extra ``export``."""
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(package, "export", "exporting a policy") from error


@contextmanager
def silence() -> Iterator[None]:
    """Torch's exporter speaks of packages that nobody needs; what goes wrong is an exception anyhow."""
    loggers = [logging.getLogger(name) for name in SPOKEN]
    levels: Sequence[int] = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
