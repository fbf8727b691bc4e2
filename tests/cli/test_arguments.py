"""Arguments of an evaluation: short and dotted flags, configuration files, and errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from alpharefine.cli import evaluate
from alpharefine.cli.arguments import ALIASES, TYPES, make_parser, parse_config
from alpharefine.cli.configs import EVALUATION_CONFIGS
from alpharefine.errors import UserError
from alpharefine.evaluation.config import EvaluationConfig
from alpharefine.evaluation.results import save_config


def parse(*args: object) -> EvaluationConfig:
    return parse_config(make_parser("evaluate", "Test."), [str(arg) for arg in args])


def test_short_flags_are_those_of_the_readme() -> None:
    assert set(TYPES) == set(ALIASES.values())
    for flag in ("ckpt", "tracker", "tracker_weights", "data_root", "split", "sequences", "output_dir", "dataset"):
        assert flag in ALIASES


@pytest.mark.parametrize(
    ("args", "path", "value"),
    [
        (("--ckpt", "a.ckpt"), "refiner.ckpt", "a.ckpt"),
        (("--refiner.ckpt", "a.ckpt"), "refiner.ckpt", "a.ckpt"),
        (("--ckpt=a.ckpt",), "refiner.ckpt", "a.ckpt"),
        (("--dataset", "otb100"), "dataset.name", "otb100"),
        (("--data_root", "x/y"), "dataset.root", Path("x/y")),
        (("--sequences", "a-1,b-2"), "dataset.sequences", ("a-1", "b-2")),
        (("--dataset.sequences", "a-1, b-2"), "dataset.sequences", ("a-1", "b-2")),
        (("--dataset.sequences", '["a-1"]'), "dataset.sequences", ("a-1",)),
        (("--tracker_weights", "a.onnx,b.onnx"), "tracker.weights", (Path("a.onnx"), Path("b.onnx"))),
        (("--first_box", "1,2.5,3,4"), "dataset.first_box", (1.0, 2.5, 3.0, 4.0)),
        (("--baseline",), "run.baseline", True),
        (("--run.baseline",), "run.baseline", True),
        (("--baseline", "false"), "run.baseline", False),
        (("--feedback",), "refiner.feedback", True),
        (("--no-feedback",), "refiner.feedback", False),
        ((), "refiner.feedback", None),
        (("--min_score", "-0.5"), "refiner.min_score", -0.5),
        (("--devices", "2"), "run.devices", 2),
        (("--protocol", "pysot"), "output.protocol", "pysot"),
        ((), "output.protocol", "auto"),
        (("--startup_limit", "3"), "tracker.startup_limit", 3.0),
    ],
    ids=str,
)
def test_values(args: tuple[str, ...], path: str, value: object) -> None:
    group, leaf = path.split(".")
    assert getattr(getattr(parse("--tracker", "mil", *args), group), leaf) == value


def test_a_command_after_the_scheme_is_one_value() -> None:
    assert parse("--tracker", "cmd:python my.py --fast").tracker.name == "cmd:python my.py --fast"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "arguments are required: `--tracker`"),
        (("--tracker", "mil", "--frobnicate", "1"), "--frobnicate"),
        (("--tracker", "mil", "--refiner.frobnicate", "1"), "frobnicate"),
        (("--tracker", "mil", "--ckpt"), "`--ckpt` requires a value"),
        (("--output_dir", "--overwrite", "--tracker", "mil"), "`--output_dir` requires a value"),
        (("--tracker", "mil", "--devices", "two"), "`--devices` must be a whole number, got 'two'"),
        (("--tracker", "mil", "--min_score", "high"), "`--min_score` must be a number, got 'high'"),
        (
            ("--tracker", "mil", "--when_lost", "sleep"),
            "`--when_lost` must be one of refine, report, keep, got 'sleep'",
        ),
        (("--tracker", "mil", "--baseline", "--compare=maybe"), "`--compare` must be true or false, got 'maybe'"),
        (("--tracker", "mil", "--sequences", ","), "`--sequences` requires at least one value"),
        (("--tracker", "mil", "--config", "nonesuch.yaml"), "`--config`: no file nonesuch.yaml"),
    ],
    ids=str,
)
def test_errors_in_one_line(args: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(*args)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def write(path: Path, **content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_configuration_file_and_flags(tmp_path: Path) -> None:
    file = write(
        tmp_path / "mine.yaml",
        tracker={"name": "oracle"},
        run={"baseline": True},
        dataset={"sequences": ["a-1", "b-1"]},
    )
    for args in (("--config", file, "--tracker", "mil"), ("--tracker", "mil", "-c", file)):
        config = parse(*args)
        assert config.tracker.name == "mil", "a flag overrides the file, wherever it stands"
        assert config.run.baseline
        assert config.dataset.sequences == ("a-1", "b-1")


@pytest.mark.parametrize(
    "content", [{"trackers": {"name": "mil"}}, {"tracker": {"name": "mil", "speed": 9}}, {"tracker": {"name": 7.5}}]
)
def test_unknown_keys_and_wrong_types_are_errors(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        parse("--config", write(tmp_path / "mine.yaml", **content))


def test_a_saved_configuration_reproduces_itself(tmp_path: Path) -> None:
    config = parse("--tracker", "mil", "--sequences", "a-1,b-1", "--min_score", "0.5", "--data_root", tmp_path)
    save_config(tmp_path, config)
    assert parse("--config", tmp_path / "config.yaml") == config


def test_flags_without_effect_are_errors() -> None:
    parser = make_parser("score", "Test.")
    with pytest.raises(UserError, match="`--ckpt` has no effect in this command"):
        parse_config(parser, ["--tracker", "mil", "--ckpt", "a"], {"tracker.name"})


@pytest.mark.parametrize("path", sorted(EVALUATION_CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations(path: Path) -> None:
    config = parse("--config", path.name, "--dataset.root", "data")
    assert config.output.compare
    assert config.output.dir == Path("results") / path.stem
    assert (config.refiner.ckpt is None) == (path.stem in {"dimp_super", "prdimp50", "siamrpnpp"})


def test_print_config(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        evaluate.main(["--config", "ardimp.yaml", "--print_config"])
    assert not ended.value.code
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["tracker"]["name"] == "super_dimp"
    assert re.fullmatch(r"SEcmnet.*\.pth\.tar", printed["refiner"]["ckpt"])
