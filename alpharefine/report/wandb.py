"""Scores of an evaluation as a run of wandb."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import wandb

from alpharefine.evaluation.config import EvaluationConfig
from alpharefine.evaluation.metrics_file import Metrics
from alpharefine.evaluation.results import config_to_dict
from alpharefine.options import WandbMode
from alpharefine.report.plots import figure_bytes, plot_all, ranked_curves
from alpharefine.report.scores import TABLE_MAKERS, Table, gains_of, has_gain
from alpharefine.tracking import PROJECT, refusals_in_one_line, resolve_mode


def log_evaluation(
    metrics: Metrics, config: EvaluationConfig, output_dir: Path, videos: Sequence[Path], mode: WandbMode
) -> None:
    """Log an evaluation as a run of wandb, which has the name of the results folder.

    | key | content |
    | --- | --- |
    | ``<tracker>/<run>/<score>``, ``<tracker>/gain/<score>`` | scores and gains, which are also in the summary |
    | ``<tracker>/<run>/<column>_ms`` | median milliseconds a frame |
    | ``curves/<curve>``, ``plots/<curve>`` | curves of all runs, as a chart and as a picture |
    | ``plots/attributes`` | bars of the scores by attribute, if the annotations hold attributes |
    | ``tables/scores``, ``tables/sequences``, ``tables/attributes`` | tables of the report |
    | ``videos/<tracker>/<sequence>`` | videos |

    Args:
        metrics: Scores of the evaluation.
        config: Configuration of the evaluation. The run also has the resolved settings of every tracker.
        output_dir: Results folder, which contains the files of the run.
        videos: Paths of videos, ``.../<tracker>/<sequence>.mp4``.
        mode: Mode of wandb, see `alpharefine.tracking.resolve_mode`.

    Raises:
        UserError: If the mode is ``online`` and there is no key or no answer of the server, or wandb refuses the run.
    """
    resolved = resolve_mode(mode)
    with refusals_in_one_line(resolved):
        run = wandb.init(
            project=PROJECT,
            job_type="evaluation",
            name=output_dir.resolve().name,
            dir=output_dir,
            mode=resolved,
            config=config_to_dict(config) | {"settings": {name: t.settings for name, t in metrics.trackers.items()}},
            settings=wandb.Settings(console="off"),
        )
    with run:
        run.log({**_numbers(metrics), **_curves(metrics), **_tables(metrics), **_pictures(metrics), **_videos(videos)})


def _numbers(metrics: Metrics) -> dict[str, float]:
    numbers: dict[str, float] = {"num_sequences": metrics.num_sequences, "num_failures": len(metrics.failures)}
    for name, tracker in metrics.trackers.items():
        by_run: dict[str, Mapping[str, float]] = {run: score.scores for run, score in tracker.scores.items()}
        gains = {"gain": gains_of(by_run)} if has_gain(by_run) else {}
        for run, scores in (by_run | gains).items():
            numbers |= {f"{name}/{run}/{key}": value for key, value in scores.items()}
        for run, each in tracker.runs.items():
            numbers |= {f"{name}/{run}/{column}_ms": value for column, value in each.median_ms.items()}
    return numbers


def _curves(metrics: Metrics) -> dict[str, Any]:
    return {
        f"curves/{name}": wandb.plot.line_series(
            xs=plot.thresholds.tolist(),
            ys=[curve.percent.tolist() for curve in plot.curves],
            keys=[curve.label for curve in plot.curves],
            title=plot.title,
            xname=plot.label,
        )
        for name, plot in ranked_curves(metrics).items()
    }


def _tables(metrics: Metrics) -> dict[str, Any]:
    return {f"tables/{name}": _table(table) for name, make in TABLE_MAKERS.items() if (table := make(metrics)).rows}


def _table(table: Table) -> Any:
    data = [[*row.labels, *(cell.value for cell in row.cells)] for row in table.rows]
    return wandb.Table(columns=[*table.heads, *table.titles], data=data)


def _pictures(metrics: Metrics) -> dict[str, Any]:
    figures = {name: figure_bytes(figure, "png") for name, figure in plot_all(metrics).items()}
    return {f"plots/{name}": wandb.Image(PIL.Image.open(io.BytesIO(png))) for name, png in figures.items()}


def _videos(paths: Sequence[Path]) -> dict[str, Any]:
    return {f"videos/{path.parent.name}/{path.stem}": wandb.Video(str(path), format="mp4") for path in paths}
