"""Run a policy that `pistar export` wrote, with onnxruntime and NumPy alone; copy this file to where you need it.

    pip install onnxruntime numpy
    python run_policy.py policy.onnx

`Policy.act` takes one observation as the environment gives it, an array or a dict of arrays, and gives the action that goes into
the environment's `step`. It trusts the file; `pistar.export.ExportedPolicy` is the reader that does not.
"""

import json
import sys

import numpy as np
import onnxruntime


class Policy:
    """One lane: keeps the memory of its episode; call `reset` when an episode begins."""

    def __init__(self, path: str, seed: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # small networks lose by more
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.about = json.loads(self.session.get_modelmeta().custom_metadata_map["pistar"])
        if (self.about["format"], self.about["version"]) != ("pistar-onnx", 1):
            raise ValueError(f"{path} is of another format: {self.about['format']} {self.about['version']}")
        self.random = np.random.default_rng(seed)
        self.reset()

    def ports(self, side: str, role: str) -> list[dict]:
        """The "inputs" or "outputs" of a role; each has name, path, dtype and shape."""
        return [port for port in self.about[side] if port["role"] == role]

    def reset(self) -> None:
        """An episode begins: memory is zeros, and noise is drawn anew."""
        self.memory = {p["name"]: np.zeros((1, *p["shape"]), p["dtype"]) for p in self.ports("inputs", "memory")}
        self.noise: dict[str, np.ndarray] = {}
        self.age = 0

    def act(self, observation: object, deterministic: bool = True) -> object:
        """The action for one observation, and one step more of memory."""
        feeds = {
            p["name"]: np.asarray(leaf(observation, p["path"]), p["dtype"])[None]
            for p in self.ports("inputs", "observation")
        }
        feeds |= self.memory | self.draw()
        feeds |= {p["name"]: np.zeros(1, bool) for p in self.ports("inputs", "reset")}  # `reset` does it
        names = [port["name"] for port in self.about["outputs"]]
        found = dict(zip(names, self.session.run(names, feeds), strict=True))
        inward, outward = (self.ports(side, "memory") for side in ("inputs", "outputs"))
        self.memory = {i["name"]: found[o["name"]] for i, o in zip(inward, outward, strict=True)}
        self.distribution = {p["name"]: found[p["name"]][0] for p in self.ports("outputs", "distribution")}
        action: object = {}
        for port in self.ports("outputs", "action" if deterministic else "sample"):
            action = put(action, port["path"], found[port["name"]][0])
        return action

    def draw(self) -> dict[str, np.ndarray]:
        """Standard normal or uniform numbers, as each input asks; some are held for several steps, or for the episode."""
        for port in self.ports("inputs", "noise"):
            if port["name"] not in self.noise or (port["hold"] and self.age % port["hold"] == 0):
                draw = self.random.standard_normal if port["noise"] == "normal" else self.random.random
                self.noise[port["name"]] = draw((1, *port["shape"]), np.float32)
        self.age += 1
        return self.noise


def leaf(tree: object, path: list[str]) -> object:
    """What is at the end of a path of keys; in tuples the keys are "0", "1", ..."""
    for key in path:
        tree = tree[key] if isinstance(tree, dict) else tree[int(key)]
    return tree


def put(tree: object, path: list[str], value: object) -> object:
    """The tree with a value at the end of a path; parts of a Tuple stand under "0", "1", ..."""
    if not path:
        return value
    tree[path[0]] = put(tree.get(path[0], {}), path[1:], value)
    return tree


if __name__ == "__main__":
    policy = Policy(sys.argv[1])
    print(f"{policy.about['task']}, {policy.about['steps']} steps of {policy.about['algorithm']}")
    zeros: object = {}
    for port in policy.ports("inputs", "observation"):
        print(f"  sees {port['name']} {port['dtype']} {port['shape']}")
        zeros = put(zeros, port["path"], np.zeros(port["shape"]))
    print("for zeros it does", policy.act(zeros), "or, with chance,", policy.act(zeros, deterministic=False))
