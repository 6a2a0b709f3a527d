"""The native kernels against torch's own arithmetic, for whatever the registries hold; and that nothing else tells them apart."""

from __future__ import annotations

import copy
import dataclasses
import functools
import logging
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from pistar import acting, closed_form, optimizers, training
from pistar.algorithms import ALGORITHMS
from pistar.algorithms.a2c import A2C
from pistar.algorithms.critic import Regression
from pistar.algorithms.ppo import PPO
from pistar.cloning import Imitation
from pistar.envs.environment import Spaces
from pistar.errors import NumericalError, UsageError
from pistar.experiment import find_task, resolve
from pistar.kernels import check, library, network
from pistar.learner import Learner
from pistar.networks import ACTIVATIONS, Tower
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.rollout import Batch

pytestmark = pytest.mark.skipif(library.library() is None, reason="the kernels cannot be built here")

ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(5, start=2),
    "box": spaces.Box(np.array([-1.0, 0.0, 3.0], np.float32), np.array([1.0, 0.5, np.inf], np.float32)),
}
KNOWN = ["tanh", "relu", "elu"]  # activations of the kernels


def policy_of(action: str, inputs: int = 7, **settings: Any) -> Policy:
    lane = Spaces(spaces.Box(-9.0, 9.0, (inputs,), np.float32), ACTIONS[action])
    kind = MLP(**{"hidden": (20, 70), "critic_hidden": (33,), "last_gain": 1.0, **settings})
    policy = kind.build(lane, torch.Generator().manual_seed(0))
    policy.absorb(3 * torch.randn(100, inputs, generator=torch.Generator().manual_seed(1)) + 1)
    return policy


def batch_of(policy: Policy, size: int, weighted: bool) -> Batch:
    generator = torch.Generator().manual_seed(2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    observation = 3 * normal(size, policy.spaces.observation.shape[0])  # type: ignore[index]
    noise = policy.head.noise((size,), generator, torch.float32, torch.device("cpu"))
    with torch.no_grad():
        distribution = policy.head(policy.outputs(observation)[0])
        action = distribution.sample(noise)
        log_prob = distribution.log_prob(action) + 0.3 * normal(size)
    weight = (torch.rand(size, generator=generator) < 0.7).float() if weighted else None
    return Batch(observation, action, log_prob, normal(size) + 0.5, normal(size), weight)


def both(policy: Policy, loss: Any, batch: Batch) -> list[tuple[float, dict[str, float], Tensor]]:
    """Loss, metrics and gradient by the kernels, then by torch."""
    found = []
    for native in (True, False):
        learner = Learner(policy)
        if not native:
            learner._network = None
        else:
            assert learner._network is not None
        value, metrics = learner.differentiate(loss, batch)
        assert isinstance(value, float) == native  # the kernels were used, or were not
        found.append((float(value), {k: float(v) for k, v in metrics.items()}, learner.gradient.clone()))
    return found


def marked() -> list[Any]:
    """Every algorithm of the registry whose loss has a closed form, with its switches either way."""
    settings: list[Any] = []
    for name in ALGORITHMS.names():
        made = ALGORITHMS.get(name)()
        if getattr(type(made), "loss", None) in closed_form.marked():
            settings += [made, dataclasses.replace(made, normalize_advantages=True, value_weight=0.7)]
    return [*settings, Regression(), Imitation(0.7)]  # the critic's own, which algorithms share; that of cloning


def loss_of(algorithm: Any) -> Any:
    if isinstance(algorithm, Regression | Imitation):
        return partial(algorithm.loss)
    keywords = {"entropy_weight": 0.05} | ({"clip": 0.15} if isinstance(algorithm, PPO) else {})
    return partial(algorithm.loss, **keywords)


@pytest.mark.parametrize("algorithm", marked(), ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("activation", KNOWN)
@pytest.mark.parametrize(("size", "weighted"), [(1, False), (48, False), (205, True)])
def test_the_gradient_is_that_of_the_loss_as_it_is_written(
    algorithm: Any, action: str, activation: str, size: int, weighted: bool
) -> None:
    policy = policy_of(action, activation=activation)
    one, other = both(policy, loss_of(algorithm), batch_of(policy, size, weighted))
    assert one[0] == pytest.approx(other[0], rel=1e-4, abs=1e-5)
    assert one[1] == pytest.approx(other[1], rel=1e-3, abs=2e-5)
    assert float((one[2] - other[2]).norm()) <= 1e-4 * float(other[2].norm()) + 1e-6


def test_every_loss_that_is_marked_belongs_to_an_algorithm_of_the_registry() -> None:
    assert {type(each).loss for each in marked()} == set(closed_form.marked())
    assert len(marked()) >= 5


def test_entries_of_weight_0_are_silent_whatever_they_hold() -> None:
    policy = policy_of("box")
    batch = batch_of(policy, 60, True)
    assert batch.weight is not None
    clean = Learner(policy)
    clean.differentiate(loss_of(PPO()), batch)
    silent = batch.weight == 0
    for field in (batch.observation, batch.action, batch.log_prob, batch.advantage, batch.target):
        field[silent] = float("nan")
    dirty = Learner(policy)
    dirty.differentiate(loss_of(PPO(normalize_advantages=False)), batch)
    assert torch.equal(clean.gradient, dirty.gradient)


@pytest.mark.parametrize("bound", [-6.0, 3.0])
def test_a_deviation_outside_its_bounds_gets_torchs_gradient(bound: float) -> None:
    policy = policy_of("box")
    with torch.no_grad():
        policy.head.log_std.fill_(bound)  # type: ignore[union-attr]
    one, other = both(policy, loss_of(PPO()), batch_of(policy, 100, False))
    assert float((one[2] - other[2]).norm()) <= 1e-4 * float(other[2].norm())


class Negated(PPO):
    def loss(self, *arguments: Any, **keywords: Any) -> Any:
        value, metrics = super().loss(*arguments, **keywords)
        return -value, metrics


class Wrapped(A2C):
    @functools.wraps(A2C.loss)
    def loss(self, *arguments: Any, **keywords: Any) -> Any:
        value, metrics = A2C.loss(self, *arguments, **keywords)
        return -value, metrics


@pytest.mark.parametrize(("plain", "changed"), [(PPO(), Negated()), (A2C(), Wrapped())])
def test_a_loss_that_a_subclass_negates_moves_the_parameters_the_other_way(plain: Any, changed: Any) -> None:
    policy = policy_of("discrete")
    batch = batch_of(policy, 100, False)
    gradients = []
    for algorithm in (plain, changed):
        learner = Learner(policy)
        learner.differentiate(loss_of(algorithm), batch)
        gradients.append(learner.gradient.clone())
    assert torch.allclose(gradients[0], -gradients[1], atol=1e-5)


class Careful(type(policy_of("discrete"))):  # type: ignore[misc]
    """A subclass of the policy that the kernels know: anything may be different in it."""


def test_only_what_is_known_exactly_is_taken_over() -> None:
    assert network.fits(policy_of("box"))
    finite = Spaces(spaces.Box(-1.0, 1.0, (7,), np.float32), spaces.Box(-1.0, 1.0, (2,), np.float32))
    squashed = MLP(squash=True).build(finite, torch.Generator())
    others = [policy_of("box").double(), squashed, policy_of("box", activation="silu")]
    others.append(policy_of("box", auxiliary_value=True))
    careful, replaced, hooked = policy_of("box"), policy_of("box"), policy_of("box")
    careful.__class__ = Careful
    replaced.outputs = replaced.outputs  # type: ignore[method-assign]
    hooked.register_forward_hook(lambda *_: None)
    for policy in (*others, careful, replaced, hooked):
        assert not network.fits(policy)


@pytest.mark.parametrize("action", ACTIONS)
def test_acting_is_what_the_policy_itself_would_do(action: str) -> None:
    policy = policy_of(action)
    native, plain = acting.of(policy, torch.device("cpu")), acting.PlainActing(policy, torch.device("cpu"))
    assert isinstance(native, acting.NativeActing)
    observation = [3 * torch.randn(5, 7, generator=torch.Generator().manual_seed(t)) for t in range(40)]
    for _ in range(2):  # the second time with other weights and moments
        given = []
        for each in (native, plain):
            each.begin(40, 5, torch.Generator().manual_seed(3))
            with torch.no_grad():
                executed = torch.stack([each.act(t, x).clone() for t, x in enumerate(observation)])
                given.append((executed, *each.finish()))
        for one, other in zip(*given, strict=True):
            assert one.dtype == other.dtype
            assert one.shape == other.shape
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
        policy.absorb(torch.randn(50, 7))
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.mul_(1.1)


def test_acting_reads_observations_as_they_lie_in_memory_and_refuses_others() -> None:
    policy = policy_of("box")
    native = acting.of(policy, torch.device("cpu"))
    assert isinstance(native, acting.NativeActing)
    across = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).t()  # [5, 7], not contiguous
    with torch.no_grad():
        for observation in (across.contiguous(), across):
            native.begin(1, 5, torch.Generator().manual_seed(1))
            native.act(0, observation)
            assert torch.allclose(native._outputs[0], policy.outputs(observation)[0], atol=1e-5)
        for wrong in (across.double(), across[:, :6], across[:4]):
            with pytest.raises(UsageError, match="expected float32"):
                native.act(0, wrong)


def test_a_policy_that_has_changed_since_is_looked_at_again() -> None:
    policy = policy_of("discrete")
    learner, batch = Learner(policy), batch_of(policy, 50, False)
    assert isinstance(learner.differentiate(loss_of(PPO()), batch)[0], float)
    for parameter in policy.actor.parameters():  # type: ignore[union-attr]
        parameter.requires_grad_(False)
    learner.differentiate(loss_of(PPO()), batch)
    assert not learner.gradient[learner.slices["actor"]].any()
    assert learner.gradient[learner.slices["critic"]].any()
    native = acting.of(policy_of("box"), torch.device("cpu"))
    assert native.fits()
    native.policy.double()
    assert not native.fits()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(4, 64, 64, 2), (17, 100, 33, 6), (5, 3), (130, 16, 1)])
@pytest.mark.parametrize("rows", [(1,), (3, 50)])
def test_towers_and_their_gradients(activation: str, sizes: tuple[int, ...], rows: tuple[int, ...]) -> None:
    tower = Tower(sizes, activation, 1.0, torch.Generator().manual_seed(0))
    x = torch.randn((*rows, sizes[0]), generator=torch.Generator().manual_seed(1), requires_grad=True)
    direction = torch.randn((*rows, sizes[-1]), generator=torch.Generator().manual_seed(2))
    inputs = [x, *tower.parameters()]
    ours, theirs = tower(x), tower.layers(x)
    assert torch.allclose(ours, theirs, atol=1e-5)
    for one, other in zip(*(torch.autograd.grad((y * direction).sum(), inputs) for y in (ours, theirs)), strict=True):
        assert float((one - other).norm()) <= 1e-5 * float(other.norm()) + 1e-6
    with torch.no_grad():
        assert torch.allclose(tower(x), theirs, atol=1e-5)
        assert torch.equal(copy.deepcopy(tower)(x), tower(x))


def test_gradients_of_gradients_and_forward_derivatives() -> None:
    tower = Tower((3, 8, 2), "tanh", 1.0, torch.Generator().manual_seed(0))
    x, v = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3)

    def second(function: Any) -> Tensor:
        (first,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad((first * v).sum(), x)[0]

    assert torch.allclose(second(tower), second(tower.layers), atol=1e-5)
    forwards = torch.func.jvp(tower, (x.detach(),), (v,))[1]
    assert torch.allclose(forwards, torch.func.jvp(tower.layers, (x.detach(),), (v,))[1], atol=1e-6)


def test_adam_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    start, native = torch.randn(1000, generator=generator), library.library()
    assert native is not None
    pairs = [(start.clone(), torch.zeros(1000)) for _ in range(2)]
    ours = optimizers.NativeAdam(native, *pairs[0], 0.01, 1e-6)
    theirs = optimizers.TorchOptimizer("adam", *pairs[1], 0.01, 1e-6)
    assert ours.state() == theirs.state() == {}
    for step in range(20):
        gradient = torch.randn(1000, generator=generator)
        for each in (ours, theirs):
            each.gradient.copy_(gradient)
            each.rate = 0.01 / (1 + step)
            each.step(0.5 if step % 2 else 1.0)
    assert torch.allclose(ours.parameters, theirs.parameters, rtol=1e-5, atol=1e-6)
    states = ours.state(), theirs.state()
    assert states[0].keys() == states[1].keys()
    for name in states[0]:
        assert torch.allclose(states[0][name], states[1][name], rtol=1e-4, atol=1e-7)
    theirs.load_state(ours.state())
    ours.load_state(theirs.state())
    assert int(ours.state()["step"]) == 20


@pytest.mark.parametrize("field", ["observation", "advantage", "target", "log_prob"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_with_nothing_changed(field: str, value: float) -> None:
    policy = policy_of("discrete")
    batch, learner = batch_of(policy, 100, False), Learner(policy)
    getattr(batch, field)[37] = -value if field == "log_prob" else value
    batch.advantage[37] = batch.advantage[37] if field == "advantage" else -1.0  # a ratio of infinity is felt
    before = learner.parameters.clone()
    if field == "observation" and value == float("inf"):
        return  # the normaliser's limit, as in torch
    with pytest.raises(NumericalError, match="not finite"):
        learner.descend(loss_of(PPO()), batch)
    assert torch.equal(learner.parameters, before)


def test_two_threads_change_no_bit() -> None:
    for action in ACTIONS:
        policy = policy_of(action)
        batch, found = batch_of(policy, 300, weighted=True), []
        for threads in (1, 2):
            learner = Learner(policy, threads=threads)
            value, metrics = learner.differentiate(loss_of(PPO()), batch)
            found.append((value, metrics, learner.gradient.clone()))
        assert found[0][:2] == found[1][:2]
        assert torch.equal(found[0][2], found[1][2])
        assert float(found[0][2].norm()) > 0


def test_a_process_that_is_forked_has_a_second_thread_of_its_own() -> None:
    policy = policy_of("box")
    batch, learner = batch_of(policy, 300, weighted=False), Learner(policy, threads=2)
    expected = learner.differentiate(loss_of(PPO()), batch)[0]
    child = os.fork()
    if child == 0:
        os._exit(0 if learner.differentiate(loss_of(PPO()), batch)[0] == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert learner.differentiate(loss_of(PPO()), batch)[0] == expected


# Where they come from


def test_without_a_compiler_torch_does_the_work_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with caplog.at_level(logging.INFO, "pistar"):
        assert library._made.__wrapped__() is None
    assert [record.message for record in caplog.records] == [
        "native kernels are not used: no C++ compiler is installed (looked for c++, g++, clang++); install one, or pip install "
        "'pistar[kernels]'; torch does their work, more slowly"
    ]


def test_a_compiler_from_pip_serves_where_the_machine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "ziglang" else None)
    assert len(library.compiler()) == 1  # the machine's own comes first
    monkeypatch.setenv("PATH", "/nonexistent")
    assert library.compiler() == (sys.executable, "-m", "ziglang", "c++")
    monkeypatch.setenv("CXX", "a-compiler")
    with pytest.raises(library.Unavailable, match="looked for a-compiler"):
        library.compiler()


def test_kernels_that_compute_wrongly_are_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(check, "ACTIVATIONS", (torch.tanh, torch.sigmoid, torch.nn.functional.elu))
    assert library._made.__wrapped__() is None
    assert "they compute wrongly here (gradient off by" in caplog.text


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_they_are_checked_wherever_they_are_first_asked_for(mode: Any) -> None:
    with mode():
        assert check.problem(library.load()) is None


def test_torchs_default_precision_is_none_of_their_business() -> None:
    policy, generator = policy_of("box"), torch.Generator().manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        assert check.problem(library.load()) is None
        native = acting.of(policy, torch.device("cpu"))
        native.begin(3, 2, generator)
        with torch.no_grad():
            executed = native.act(0, torch.zeros(2, 7, dtype=torch.float32))
        assert executed.dtype == torch.float32
        assert native.finish()[1].shape == (3, 2)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_source_that_does_not_compile_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library, "FLAGS", (*library.FLAGS, "-Dmemcpy=nonsense"))
    with pytest.raises(library.Unavailable, match="could not compile them"):
        library.load()
    assert list(tmp_path.rglob("*.tmp")) == []


def test_a_library_that_is_damaged_is_not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = library.cache() / f"{library.key(library.compiler())}.so"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"half")
    with pytest.raises(library.Unavailable):
        library.load()


def test_they_can_be_switched_off_from_outside() -> None:
    code = "from pistar.kernels.library import identity, library; assert library() is None; print(identity())"
    environment = {**os.environ, "PISTAR_KERNELS": "off"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "off\n"


def test_a_run_that_began_without_them_goes_on_without_them(tmp_path: Path) -> None:
    table = {
        "training": {"lanes": 2, "horizon": 16, "steps": 128, "warm_up": 16},
        "evaluation": {"episodes": 2, "every": 32, "final_episodes": 2},
        "policy": {"kind": "mlp", "hidden": [8]},
        "algorithm": {"kind": "ppo", "epochs": 1},
    }
    wanted = resolve(find_task("CartPole-v1"), (table, "the test"))
    with library.switched(False):
        whole = training.train(wanted, tmp_path / "whole", quiet=True)
        training.train(wanted, tmp_path / "cut", quiet=True, on_iteration=lambda now: now.iteration == 2)
    assert 'kernels = "off"' in (tmp_path / "cut" / "experiment.toml").read_text()
    rest = training.resume(tmp_path / "cut", quiet=True)
    weights = [torch.cat([p.detach().flatten() for p in result.policy.parameters()]) for result in (whole, rest)]
    assert torch.equal(*weights)
