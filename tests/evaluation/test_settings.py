"""Checks of a configuration, and its resolved defaults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alpharefine.errors import UserError
from alpharefine.evaluation import settings
from alpharefine.evaluation.config import EvaluationConfig, RefinerConfig, RunConfig, TrackerConfig
from alpharefine.evaluation.settings import RefinementSettings, resolve_runs
from alpharefine.inference.options import resolve_precision
from alpharefine.options import ComputePrecision


@pytest.fixture(autouse=True)
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Configuration of the network in place of a checkpoint's."""
    network = SimpleNamespace(geometry="exact", heads=("corner",), quality_head="none")

    def resolve(precision: ComputePrecision, device_type: str) -> ComputePrecision:
        return resolve_precision(precision, device_type, network.geometry)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").touch()
    loaded = SimpleNamespace(config=network, resolve_precision=resolve)
    monkeypatch.setattr(settings, "load_network", lambda *_: loaded)
    return network


def config(tracker: str = "mil", baseline: bool = False, **refiner: Any) -> EvaluationConfig:
    return EvaluationConfig(TrackerConfig(tracker), refiner=RefinerConfig(**refiner), run=RunConfig(baseline=baseline))


def refinement(evaluation: EvaluationConfig) -> RefinementSettings:
    found = resolve_runs(evaluation).settings["refined"].refinement
    assert found is not None
    return found


def test_runs() -> None:
    assert list(resolve_runs(config()).settings) == ["base"]
    assert list(resolve_runs(config(ckpt="a")).settings) == ["refined"]
    both = resolve_runs(config(ckpt="a", baseline=True))
    assert list(both.settings) == ["base", "refined"]
    assert both.settings["base"].refinement is None
    assert both.settings["base"].tracker == both.settings["refined"].tracker


def test_published_boxes_have_a_base_run_always(tmp_path: Path) -> None:
    evaluation = config("replay", ckpt="a")
    evaluation = replace(evaluation, tracker=replace(evaluation.tracker, results_dir=tmp_path))
    assert list(resolve_runs(evaluation).settings) == ["base", "refined"]
    assert not refinement(evaluation).feedback


@pytest.mark.parametrize(
    ("tracker", "geometry", "given", "expected"),
    [
        ("mil", "exact", None, 0.2),
        ("mil", "original", None, 0.0),
        ("self", "exact", None, 0.0),
        ("mil", "original", 0.6, 0.6),
        ("mil", "exact", 0.0, 0.0),
    ],
)
def test_minimum_feedback_score(
    network: SimpleNamespace, tracker: str, geometry: str, given: float | None, expected: float
) -> None:
    network.geometry = geometry
    found = refinement(config(tracker, ckpt="a", min_feedback_score=given))
    assert (found.min_feedback_score, found.geometry) == (expected, geometry)


def test_the_minimum_feedback_score_of_a_predicted_iou(network: SimpleNamespace) -> None:
    network.quality_head, network.heads = "convolutions", ("corner", "mask")
    assert refinement(config(ckpt="a")).min_feedback_score == 0.5
    assert refinement(config(ckpt="a", box_from="mask")).min_feedback_score == 0.2
    assert refinement(config("self", ckpt="a")).min_feedback_score == 0
    network.geometry = "original"
    assert refinement(config(ckpt="a")).min_feedback_score == 0


def test_defaults_are_resolved(network: SimpleNamespace) -> None:
    found = refinement(config(ckpt="a"))
    assert (found.precision, found.box_from, found.mask_threshold, found.feedback) == ("32", "corner", 0.5, True)
    network.heads = ("mask",)
    assert refinement(config(ckpt="a", feedback=False)).box_from == "mask"
    assert not refinement(config(ckpt="a", feedback=False)).feedback


def test_a_checkpoint_is_found_in_the_folder_of_official_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "ar34.pth.tar").touch()
    monkeypatch.setenv("ALPHAREFINE_WEIGHTS", str(tmp_path / "weights"))
    assert refinement(config(ckpt="ar34.pth.tar")).ckpt == str(tmp_path / "weights" / "ar34.pth.tar")
    with pytest.raises(UserError, match=r"`--ckpt`: no file other\.pth\.tar; .* shipped weights: ar18_cm\."):
        refinement(config(ckpt="other.pth.tar"))


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        (config(feedback=True), "`--feedback` applies only to refinement, which requires `--ckpt`"),
        (config(baseline=True), "`--baseline` applies only to refinement, which requires `--ckpt`"),
        (config("self"), "--tracker self needs --ckpt"),
        (config("self", ckpt="a", baseline=True), "`--baseline`: self does not run without a refiner"),
        (config("self", ckpt="a", feedback=False), "`--no-feedback`: self moves only by the refined box"),
        (config("csrt", ckpt="a", feedback=True), "`--feedback`: csrt does not accept the refined box"),
        (config(ckpt="a", feedback=False, min_feedback_score=0.1), "`--min_feedback_score` requires feedback"),
        (config("dimp50", ckpt="a", feedback=False, when_lost="report"), "`--when_lost report` requires feedback"),
        (config("oracle:mil", ckpt="a", min_score=0.5), "`--min_score`: oracle:mil gives no scores"),
        (config("self", ckpt="a", when_lost="keep"), "`--when_lost keep`: self does not report lost targets"),
        (config(ckpt="a", mask_threshold=0.4), "`--mask_threshold` requires `--box_from mask` or `--save_masks`"),
        (config(ckpt="a", mask_threshold=1.0, save_masks=True), "`--mask_threshold` must be between 0 and 1, got 1.0"),
        (config(ckpt="a", box_from="mask"), "`--box_from mask`: the network of a has only the head corner"),
        (config(ckpt="a", save_masks=True), "`--save_masks`: the network of a has no mask head"),
        (config(ckpt="a", min_score=float("nan")), "`--min_score` must be a finite number, got nan"),
        (EvaluationConfig(TrackerConfig("mil", frame_limit=3.0)), "`--startup_limit` and `--frame_limit` are for"),
        (EvaluationConfig(TrackerConfig("cmd:ls", frame_limit=0.0)), "`--frame_limit` must be a positive number"),
        (EvaluationConfig(TrackerConfig("mil"), run=RunConfig(devices=0)), "`--devices` must be a whole number"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_options_that_are_not_possible(
    evaluation: EvaluationConfig, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "dimp50.pth").touch()
    monkeypatch.setenv("ALPHAREFINE_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError, match=message):
        resolve_runs(evaluation)
