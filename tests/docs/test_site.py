"""The documentation as a site: it builds without a warning, and its notebooks, pictures and scripts run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.docs.pages import PAGES, ROOT
from tests.training_runs import SMALL, read_checkpoint, run

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
SCRIPT = ROOT / "examples" / "slurm_train.sbatch"

SRUN = """\
import os, subprocess, sys
nodes = range(int(os.environ["SLURM_JOB_NUM_NODES"]))
tasks = [
    subprocess.Popen(sys.argv[1:], env=os.environ | {"SLURM_PROCID": n, "SLURM_NODEID": n, "SLURM_LOCALID": "0"})
    for n in map(str, nodes)
]
sys.exit(max(task.wait() for task in tasks))
"""
"""Stand-in for srun: one task for each node of the job, all on this machine."""


def build(folder: Path, **environment: str) -> Path:
    done = run("-m", "mkdocs", "build", "--strict", "--site-dir", str(folder), cwd=ROOT, **environment)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the built site, with notebooks that were not executed."""
    return build(tmp_path_factory.mktemp("site").resolve(), EXECUTE_NOTEBOOKS="false")


@pytest.mark.slow
def test_the_site_has_every_page(site: Path) -> None:
    built = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    for page in [*PAGES, *NOTEBOOKS]:
        name = page.relative_to(ROOT).with_suffix("").as_posix().removeprefix("docs/")
        assert ("index" if name == "README" else name) in built
    assert "examples/onnx_refiner.py" in {path.relative_to(site).as_posix() for path in site.rglob("*.py")}
    assert not (site / "extensions").exists()


@pytest.mark.slow
def test_the_site_requests_no_other_host(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        found = re.findall(
            r"<(?:script|img|iframe)[^>]* src=[\"']?(https?:[^\"' >]*)|<link[^>]* href=[\"']?https?:", text
        )
        assert found == [], path.name


@pytest.mark.slow
def test_links_of_the_site_resolve(site: Path) -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html") if path.name != "404.html"}
    for path, text in texts.items():
        for link in re.findall(r' (?:href|src)="(?!\w+:)([^"]+)"', text):
            name, _, anchor = link.partition("#")
            target = path if name == "" else (path.parent / name).resolve()
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path.name} links to {link}"
            assert not anchor or f'id="{anchor}"' in texts.get(target, ""), f"{path.name} links to {link}"


@pytest.mark.slow
def test_the_site_has_the_docstrings(site: Path) -> None:
    text = (site / "api" / "refiner.html").read_text(encoding="utf-8")
    for name in ("Refiner.from_checkpoint", "Refiner.refine_many", "Refinement", "UserError"):
        assert f'id="alpharefine.{name}"' in text
    doctests = (site / "api" / "metrics.html").read_text(encoding="utf-8")
    assert doctests.count('<span class="gp">&gt;&gt;&gt; </span>') >= 5
    assert "<blockquote>" not in doctests


@pytest.mark.exhaustive
def test_the_notebooks_are_executed(tmp_path: Path) -> None:
    built = build(tmp_path.resolve())
    for notebook, num_pictures, words in (
        ("refiner", 1, ["score on the background", "(360, 480) float32"]),
        ("results", 3, ["mil/refined/curves.npz", "gain"]),
    ):
        text = (built / "notebooks" / f"{notebook}.html").read_text(encoding="utf-8")
        assert text.count('<div class="jp-RenderedImage') == num_pictures
        outputs = " ".join(re.findall(r'<div class="jp-RenderedText.*?</div>', text, re.DOTALL))
        for word in words:
            assert word in outputs


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


def test_pictures_are_used() -> None:
    pictures = {path.name for path in (ROOT / "docs" / "images").iterdir()} - {"draw.py"}
    assert pictures == {
        Path(name).name for page in PAGES for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text())
    }


@pytest.mark.slow
@pytest.mark.exhaustive
def test_pictures_are_drawn_by_their_command(tmp_path: Path) -> None:
    done = run(str(ROOT / "docs" / "images" / "draw.py"), str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    drawn = sorted(tmp_path.glob("*.webp"))
    assert [path.name for path in drawn] == sorted(path.name for path in (ROOT / "docs" / "images").glob("*.webp"))
    for path in drawn:
        pixels, stored = (np.asarray(Image.open(file), float) for file in (path, ROOT / "docs" / "images" / path.name))
        assert np.abs(pixels - stored).mean() < 3


def test_the_slurm_script_is_valid() -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.exhaustive
def test_the_slurm_script_trains_on_two_nodes(data_root: Path, tmp_path: Path) -> None:
    programs = {"srun": SRUN, "alpharefine": "from alpharefine.cli.main import console\nconsole()\n"}
    for name, program in programs.items():
        (tmp_path / name).write_text(f"#!{sys.executable}\n{program}")
        (tmp_path / name).chmod(0o755)
    job = {
        "JOB_ID": "4711",
        "JOB_NAME": "train",
        "JOB_NUM_NODES": "2",
        "NNODES": "2",
        "NTASKS": "2",
        "NTASKS_PER_NODE": "1",
    }
    job |= {"JOB_NODELIST": "localhost", "NODELIST": "localhost"}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + os.getpid() % 20000)}
    paths = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = {"config": SMALL, "data.root": data_root, "output_dir": tmp_path, "model.heads": "[corner]"}
    options |= {"model.backbone": "mobilenet_v3_small", "trainer.max_epochs": 1}
    done = subprocess.run(
        ["bash", str(SCRIPT), *(f"--{name}={value}" for name, value in options.items())],
        cwd=tmp_path,
        env=os.environ | {f"SLURM_{name}": value for name, value in job.items()} | address | paths,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    # Four pairs an epoch, two a process: one step of two processes.
    assert read_checkpoint(tmp_path / "small")["global_step"] == 1
