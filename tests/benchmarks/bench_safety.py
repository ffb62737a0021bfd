"""Random kills, races, repeats, maintenance and small disks, mixed, for as long as asked; every step is judged.

    python tests/benchmarks/bench_safety.py [seconds] [seed]

After every step each table is readable, no key is current twice and no file is half counted; after the last one all
deliveries are completed, and the lake says what an undisturbed one says. The seed is printed: it repeats the run.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from conftest import TestWorkspace
from loads import SOURCE, deliver, doubled_keys, held, ingest, rows, stray_files

FILES = 6
LIMIT = "resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, resource.RLIM_INFINITY))"
STEPS = ("kill", "kill", "race", "race and kill", "small disk", "maintain", "again")


def prepared(root: Path, rng: random.Random) -> TestWorkspace:
    """Deliveries of which each corrects rows of the one before it; their order is that of their names."""
    (root / "workbench.yml").write_text("name: bench\ntime_zone: UTC\n", encoding="utf-8")
    place = TestWorkspace(root)
    place.source(SOURCE)
    for number in range(FILES):
        count = rng.randrange(2_000, 12_000)
        deliver(place, f"{number}.csv", rows(number * 1_500, count, bad=rng.randrange(50), words=f"open{number}"))
    return place


def killed(processes: list[subprocess.Popen[str]], rng: random.Random, longest: float) -> None:
    """Wait a random while, then kill one of them; the others end by themselves."""
    victim = rng.choice(processes)
    try:
        victim.wait(rng.uniform(0, longest))
    except subprocess.TimeoutExpired:
        victim.kill()
    for process in processes:
        process.communicate(timeout=600)


def step(kind: str, place: TestWorkspace, rng: random.Random, longest: float) -> None:
    """One disturbance; what it starts has ended when it returns."""
    if kind == "kill":
        killed([ingest(place, "crm")], rng, longest)
    elif kind == "race and kill":
        killed([ingest(place, "crm") for _ in range(rng.randrange(2, 5))], rng, longest)
    elif kind == "small disk":
        ingest(place, "crm", prepare=LIMIT.format(rng.randrange(2_000, 300_000))).communicate(timeout=600)
    elif kind == "maintain":
        from aftersales.lake.upkeep import maintain

        maintain(place.open())
    else:
        processes = [ingest(place, "crm") for _ in range(rng.randrange(2, 4) if kind == "race" else 1)]
        for process in processes:
            _, err = process.communicate(timeout=600)
            if process.returncode:
                raise SystemExit(f"{kind}: {err}")


def is_whole(place: TestWorkspace, wanted: dict[str, Counter[object]]) -> None:
    """What the lake holds is whole files of what an undisturbed one would hold."""
    if doubled := doubled_keys(place.root):
        raise SystemExit(f"current twice: {doubled[:5]}")
    for name in ("delivery", "quarantine"):
        found = Counter(map(str, held(place.root).get(name, [])))
        if found - wanted[name]:
            raise SystemExit(f"{name}: {list((found - wanted[name]).items())[:3]}")


def round_of(folder: Path, seed: int, until: float) -> int:
    """Disturb a lake until the time is over or it is complete for the tenth time; how many steps."""
    rng = random.Random(seed)
    (folder / "quiet").mkdir(parents=True)
    quiet = prepared(folder / "quiet", rng)
    shutil.copytree(quiet.root, folder / "disturbed")
    place, steps, started = TestWorkspace(folder / "disturbed"), 0, time.perf_counter()
    process = ingest(quiet, "crm")
    if process.communicate(timeout=600) and process.returncode:
        raise SystemExit("the undisturbed load failed")
    longest, after = time.perf_counter() - started, held(quiet.root)
    wanted = {name: Counter(map(str, content)) for name, content in after.items()}
    for steps in range(1, 13):  # noqa: B007 - told at the end
        step(rng.choice(STEPS), place, rng, longest)
        is_whole(place, wanted)
        if time.perf_counter() > until:
            break
    step("again", place, rng, longest)
    if held(place.root) != after:
        names = [name for name, content in held(place.root).items() if content != after.get(name)]
        raise SystemExit(f"seed {seed}: {', '.join(names)} differ from the undisturbed lake")
    return steps


def main(seconds: float, seed: int) -> int:
    """0 when nothing was lost, doubled or left unreadable."""
    until, rounds, steps, left = time.perf_counter() + seconds, 0, 0, 0
    while rounds == 0 or time.perf_counter() < until:
        with tempfile.TemporaryDirectory(prefix="bench-safety-") as folder:
            print(f"seed {seed + rounds}", flush=True)
            steps += round_of(Path(folder), seed + rounds, until)
            left += len(stray_files(Path(folder) / "disturbed"))
        rounds += 1
    print(
        f"{rounds} rounds, {steps} disturbances: nothing lost, nothing twice; {left} files of killed writers, for maintain"
    )
    return 0


if __name__ == "__main__":
    given = [float(argument) for argument in sys.argv[1:]]
    raise SystemExit(main(given[0] if given else 120, int(given[1]) if len(given) > 1 else random.randrange(10**6)))
