"""The documentation agrees with the code: links, flags, configurations, tables and file shapes."""

from __future__ import annotations

import functools
import inspect
import json
import re
import shlex
from collections.abc import Set
from pathlib import Path

import pytest

from alpharefine.cli.arguments import ALIASES, TYPES, make_parser, parse_config
from alpharefine.cli.main import SUBCOMMANDS
from alpharefine.data.kinds import READERS
from alpharefine.evaluation.datasets.base import EvaluationDataset
from alpharefine.evaluation.datasets.registry import DATASETS
from alpharefine.evaluation.metrics_file import read_metrics
from alpharefine.metrics import PROTOCOLS
from alpharefine.trackers.builtin import ENTRIES
from tests.docs.pages import PAGES, ROOT, anchors, blocks, commands, rows, section, without_blocks
from tests.docs.tables import tracker_rows

DOCS = ROOT / "docs"

FOREIGN = {
    "dry",  # benchmarks/gpu.sh
    "nodownload",  # vot
    *("nproc_per_node", "nnodes", "rdzv_backend", "rdzv_endpoint"),  # torchrun
    "logdir",  # tensorboard
    *("nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "signal", "requeue", "open-mode"),  # srun, sbatch
    *("onnx", "saveEngine", "minShapes", "optShapes", "maxShapes", "fp16", "stronglyTyped"),  # trtexec
}
"""Options of other programs."""

COMMON = {"help", "config", "print_config"}

OTHER_YAML = {"my.yaml", "config.yaml", "FILE.yaml"}
"""YAML files that are no shipped configurations."""


def evaluation_options() -> set[str]:
    names = {*ALIASES, *TYPES}
    return names | {f"no-{name}" for name in names} | COMMON


def source_options(subcommand: str) -> set[str]:
    """Options that the source of a subcommand defines itself."""
    text = (ROOT / "alpharefine" / "cli" / f"{subcommand}.py").read_text(encoding="utf-8")
    return set(re.findall(r"--([\w-]+(?:\.\w+)?)", text)) | {"help"}


def example_options() -> set[str]:
    """Options of the programs in ``examples/``."""
    return {name for path in ROOT.glob("examples/*.py") for name in re.findall(r"--([\w-]+)", path.read_text())}


@functools.cache
def training_options() -> frozenset[str]:
    from pytorch_lightning import Trainer
    from pytorch_lightning.callbacks import ModelCheckpoint

    from alpharefine.training.task import RefineTask
    from datamodules import PairDataModule

    groups = {"model": RefineTask, "data": PairDataModule, "trainer": Trainer, "checkpoint": ModelCheckpoint}
    dotted = {f"{group}.{name}" for group, kind in groups.items() for name in inspect.signature(kind).parameters}
    return frozenset(source_options("train") | dotted | {"data", "data.init_args", "seed_everything"} | COMMON)


def synthetic_options() -> set[str]:
    from alpharefine.synthetic.__main__ import write_all

    return set(inspect.signature(write_all).parameters)


def options_of(line: str) -> Set[str]:
    """Options of the command in a line."""
    if "benchmarks/results.py" in line:
        return evaluation_options() | {"output"}
    if "alpharefine.synthetic" in line:
        return synthetic_options()
    if re.search(r"alpharefine(\.cli)? evaluate|evaluate\.py", line):
        return evaluation_options() | FOREIGN
    if re.search(r"alpharefine(\.cli)? score", line):
        return evaluation_options()
    if re.search(r"alpharefine(\.cli)? train|train\.py", line):
        return training_options() | FOREIGN
    if line.startswith("trtexec"):
        return FOREIGN
    found = re.search(r"alpharefine(\.cli)? (\w+)", line)
    if found is None:
        return set()
    shared = source_options("live") if found[2] in ("track", "vot") else set()
    return source_options(found[2]) | shared


def flags(text: str) -> list[str]:
    """Names of the flags outside of double quotes; of a path below a data set only its first two parts."""
    found = re.findall(r"(?<![\w-])--([a-zA-Z][\w.-]*)", re.sub(r"\"[^\"]*\"", "", text))
    return [".".join(name.rstrip(".").split(".")[:2]) for name in found]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", without_blocks(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = page if not path else (page.parent / path).resolve()
        assert linked.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{page.name} links to {target}"


@pytest.mark.parametrize(("page", "line"), commands())
def test_flags_of_commands_exist(page: str, line: str) -> None:
    found = re.search(r"alpharefine(?:\.cli)? ([a-z]+)", line)
    assert found is None or found[1] in SUBCOMMANDS, f"{page}: {line}"
    unknown = [name for name in flags(line) if name not in options_of(line)]
    assert not unknown, f"{page}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_in_the_text_exist(page: Path) -> None:
    known = evaluation_options() | training_options() | synthetic_options() | FOREIGN
    known |= source_options("report") | source_options("export") | source_options("check") | source_options("track")
    known |= source_options("vot") | source_options("live") | source_options("crops") | example_options()
    assert [name for name in flags(without_blocks(page)) if name not in known] == []


@pytest.mark.parametrize(
    ("page", "line"), [(page, line) for page, line in commands() if re.match(r"alpharefine (evaluate|score) ", line)]
)
def test_evaluation_commands_are_parsed(page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(blocks(DOCS / "evaluation.md", "yaml")[0])
    words = shlex.split(line)[2:]
    if line.startswith("alpharefine score"):
        words = ["--tracker", "mil", *words[1:]]
    parse_config(make_parser("evaluate", page), words)


def test_configurations_exist_and_are_listed() -> None:
    configs = ROOT / "configs"
    training, evaluation = ({path.name for path in folder.glob("*.yaml")} for folder in (configs, configs / "evaluate"))
    overlays = {f"overlays/{path.name}" for path in (configs / "overlays").glob("*.yaml")}
    for page in PAGES:
        for name in re.findall(r"(?<![\w/])(\w+\.yaml)\b", page.read_text(encoding="utf-8")):
            assert name in training | evaluation | OTHER_YAML, f"{page.name} names {name}"
    listed = {row[0].strip("`") for row in rows(section(DOCS / "training.md", "Configurations"))}
    assert listed == training - {"base.yaml"} | overlays
    listed = {row[0].strip("`") for row in rows(section(DOCS / "evaluation.md", "Published rows"))}
    assert listed == evaluation


def test_the_table_of_trackers_is_that_of_the_registry() -> None:
    lines = (DOCS / "trackers.md").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| `--tracker` | tracker"))
    table = lines[start + 2 : start + 2 + len(ENTRIES) + 1]
    assert table == [*tracker_rows(ENTRIES), ""]


def test_the_table_of_data_sets_is_that_of_the_registry() -> None:
    table = rows(section(DOCS / "evaluation.md", "Data sets"))
    assert [row[0].strip("`") for row in table] == list(DATASETS)
    for row in table:
        dataset = DATASETS[row[0].strip("`")]
        assert row[3] == ", ".join(f"`{split}`" for split in dataset.splits)
        is_one_pass = "one-pass" in row[4]
        assert is_one_pass or dataset.scoring is not EvaluationDataset.scoring
        assert row[5] == (f"`{dataset.default_protocol}`" if is_one_pass else "-")
        num_attributes = re.search(r"(\d+) attributes", row[4])
        assert (int(num_attributes[1]) if num_attributes else 0) == len(dataset.attribute_names)


def test_every_data_set_has_a_command() -> None:
    text = "".join(blocks(DOCS / "benchmarks.md"))
    assert set(re.findall(r"--dataset (\w+)", text)) == set(DATASETS) - {"folder"}


def test_the_table_of_protocols_is_complete() -> None:
    table = rows((DOCS / "protocols.md").read_text(encoding="utf-8"))
    assert [row[0].strip("`") for row in table] == list(PROTOCOLS)


def test_the_table_of_training_data_is_that_of_the_registry() -> None:
    table = rows((DOCS / "data.md").read_text(encoding="utf-8"))
    assert {row[2].strip("`") for row in table} == set(READERS)
    for row in table:
        assert row[3] == ("yes" if READERS[row[2].strip("`")].has_masks else "no")


def test_the_shape_of_metrics_json(tmp_path: Path) -> None:
    (example,) = blocks(DOCS / "evaluation.md", "json")
    path = tmp_path / "metrics.json"
    path.write_text(example)
    assert json.loads(read_metrics(path).to_json()) == json.loads(example)
