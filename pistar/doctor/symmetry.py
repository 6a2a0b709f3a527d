"""Whether a task has the symmetries that it declares."""

from __future__ import annotations

from collections.abc import Callable

from pistar import configuration
from pistar.doctor.findings import Diagnosis
from pistar.envs import targets
from pistar.envs.environment import Environment
from pistar.tasks.task import Task
from pistar.testing import ContractViolation, check_symmetry


def examine_symmetries(
    diagnosis: Diagnosis, target: targets.Target, make: Callable[[int], Environment], seed: int
) -> None:
    """One finding about all symmetries of a task with its defaults; none where it declares none."""
    from pistar.doctor import resolved

    found = resolved(target)
    if not (isinstance(found, type) and issubclass(found, Task)):
        return
    symmetries = configuration.build(found, {}, f"the task {target}").symmetries()
    if not symmetries:
        return
    try:
        stepped = check_symmetry(make, symmetries, seed=seed)
    except ContractViolation as violation:
        finding, _, rule = str(violation).partition("\n  ")
        diagnosis.fail("symmetry", finding, f"correct its maps, or do not declare it; {rule}")
        return
    names = ", ".join(symmetry.name for symmetry in symmetries)
    if len(stepped) < len(symmetries):
        advice = "give each a `state`, what it does to what the environment saves"
        diagnosis.warn("symmetry", f"{names}: a group, but not all could be tried on the dynamics", advice)
    else:
        diagnosis.ok("symmetry", f"{names}: dynamics and rewards agree with what the task declares")
