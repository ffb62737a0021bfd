"""What a report run costs beside the cheapest thing that could be a report: the bar is twice.

In one run, alternating: Papermill on a notebook that only imports the packages a page's kernel loads, and
`aftersales report run PAGE` for each page, on the demo world. Ratios of medians are printed; above the bar the exit code
is 1. Usage: bench_report.py [--rows 100000] [--repeat 3] [--pages overview,root_cause] [--workspace DIR]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).parent.parent))
from worlds import ROOT, SETTINGS, new_workspace

BAR = 2.0
PAGES = ("ingestion", "overview", "root_cause", "improvement_review")
LOADED = "import sys; print(sorted({name.partition('.')[0] for name in sys.modules if not name.startswith('_')}))"
PACKAGES = (
    "aftersales",
    "altair",
    "anywidget",
    "deltalake",
    "duckdb",
    "ibis",
    "ipywidgets",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "scipy",
    "sqlalchemy",
)
"""What `loaded_packages` finds in the kernels of the pages; only these are imported by the notebook to compare with."""


def command_line(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "aftersales.cli", *arguments]


def make_world(folder: Path, rows: int) -> None:
    """The demo world in `folder`, loaded."""
    new_workspace(folder, SETTINGS)
    at = ("--workspace", str(folder))
    for arguments in (
        ("demo", "--rows", str(rows)),
        ("ingest",),
        ("action", "import", str(folder / "data/demo/actions.csv")),
    ):
        subprocess.run(command_line(*arguments, *at), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def loaded_packages(folder: Path, page: str) -> list[str]:
    """Which of `PACKAGES` the kernel of `page` has loaded in the end."""
    book = nbformat.read(folder / "notebooks" / f"{page}.ipynb", as_version=4)
    code = "\n".join(cell.source for cell in book.cells if cell.cell_type == "code") + f"\n{LOADED}"
    done = subprocess.run(
        [sys.executable, "-c", code], env=_environment(folder), capture_output=True, text=True, check=True
    )
    found = set(json.loads(done.stdout.strip().splitlines()[-1].replace("'", '"')))
    return [name for name in PACKAGES if name in found]


def _environment(folder: Path) -> dict[str, str]:
    import os

    return {**os.environ, "AFTERSALES_WORKSPACE": str(folder)}


def write_imports(path: Path, packages: list[str]) -> None:
    """A notebook that imports `packages`, and nothing else."""
    special = {"aftersales": "from aftersales import open_page", "scipy": "import scipy.stats"}
    lines = [special.get(name, f"import {name}") for name in packages]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(lines))])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, path)


def seconds(command: list[str], folder: Path) -> float:
    start = time.perf_counter()
    subprocess.run(
        command, check=True, cwd=folder, env=_environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--pages", default=",".join(PAGES))
    parser.add_argument("--workspace", type=Path, help="a loaded demo workspace; made anew when absent")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.workspace or Path(scratch) / "world"
        if not asked.workspace:
            print(f"demo world of {asked.rows:,} tickets ...", flush=True)
            make_world(folder, asked.rows)
        imports = Path(scratch) / "imports.ipynb"
        packages = sorted({name for page in asked.pages.split(",") for name in loaded_packages(folder, page)})
        write_imports(imports, packages)
        print(f"imports: {', '.join(packages)}  (pages at {ROOT.name})")
        papermill = [
            sys.executable,
            "-m",
            "papermill",
            "--no-progress-bar",
            str(imports),
            str(Path(scratch) / "done.ipynb"),
        ]
        runs: dict[str, list[float]] = {"imports only": []}
        for _ in range(asked.repeat):
            runs["imports only"].append(seconds(papermill, folder))
            for page in asked.pages.split(","):
                runs.setdefault(page, []).append(seconds(command_line("report", "run", page), folder))
    base = statistics.median(runs["imports only"])
    print(f"{'':20} {'median s':>9} {'best s':>8} {'ratio':>7}   bar {BAR:g}")
    ratios = {name: statistics.median(times) / base for name, times in runs.items()}
    for name, times in runs.items():
        print(
            f"{name:20} {statistics.median(times):9.2f} {min(times):8.2f} {ratios[name]:7.2f}   {'' if ratios[name] <= BAR else 'above'}"
        )
    return int(max(ratios.values()) > BAR)


if __name__ == "__main__":
    raise SystemExit(main())
