"""How well pistar learns: several seeds of every setting, trained by the command line that users type.

    python -m benchmarks.learning [--suite mujoco ...] [--rows 'HalfCheetah-v5 ppo' ...] [--time 2h] [--runs 2]

* `suites.py`: what is trained, and by what it is scored; `recipes.py`: what a task's recipe may change, checked; `published.py`:
  the figures that stand beside;
* `sitting.py`: runs one job after another, several at a time, within a budget of time; `scoring.py`: what a run came to;
* `results.py`: one small file a row, curves included; `page.py` and `picture.py`: the table and the plot;
* `peers.py`, `sb3_trpo.py`: sb3-contrib's TRPO in the same protocol; `parity.py`: one set of results beside another.
"""
