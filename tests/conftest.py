import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from alpharefine.synthetic import write_coco, write_got10k, write_lasot, write_mask_video, write_saliency
from alpharefine.training.task import RefineTask
from datamodules import CropStoreDataModule, PairDataModule

# The precision `auto` is 32 on any CPU, so that tests compare boxes closely.
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Return the folder of the golden vectors that are part of the project."""
    return Path(__file__).resolve().parent / "golden"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder beside the project with third-party data and the golden vectors made from it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs third-party pictures or results in ../shared, which is absent")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep indexes of the tests' data out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALPHAREFINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="module")
def _no_page(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave out the report page, which takes a second an evaluation, in modules without the mark `page`."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("page") is None:
            patch.setattr("alpharefine.report.page.write_results_page", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated data sets, small; not to be changed: copy what a test changes."""
    root = tmp_path_factory.mktemp("generated")
    size = (72, 96)
    write_lasot(root / "lasot", num_train=3, num_test=1, num_frames=22, frame_size=size)
    write_got10k(root / "got10k", num_sequences=7, num_frames=20, frame_size=size)
    write_coco(root / "coco", num_train=6, num_val=3, frame_size=size)
    write_mask_video(root / "davis2016", num_sequences=2, num_frames=6, frame_size=size)
    write_saliency(root / "ecssd", num_images=4, frame_size=size)
    return root


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `train.py` would write, of a small network with random weights and both heads."""
    path = tmp_path_factory.mktemp("checkpoint") / "random.ckpt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        task = RefineTask(backbone="resnet18", backbone_weights=None)
    torch.save({"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}, path)
    return path


@pytest.fixture(scope="session")
def lasot_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One training and three testing sequences of six tiny frames; not to be changed: copy what a test changes."""
    root = tmp_path_factory.mktemp("generated") / "lasot"
    write_lasot(root, num_train=1, num_test=3, num_frames=6, frame_size=(48, 64), seed=2)
    return root


@pytest.fixture
def root(lasot_root: Path, tmp_path: Path) -> Path:
    """Three testing sequences of six frames, to be changed at will."""
    return shutil.copytree(lasot_root, tmp_path / "lasot")


@pytest.fixture
def names(root: Path) -> list[str]:
    """The testing sequences in `root`."""
    return (root / "testing_set.txt").read_text().split()


@pytest.fixture
def not_fitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[RefineTask, PairDataModule, Path | None]]:
    """Replace the training by a list that receives task, data module and checkpoint."""
    built: list[tuple[RefineTask, PairDataModule, Path | None]] = []

    def fit(_: pl.Trainer, model: RefineTask, datamodule: PairDataModule, ckpt_path: Path | None) -> None:
        built.append((model, datamodule, ckpt_path))

    monkeypatch.setattr(pl.Trainer, "fit", fit)
    for module in (PairDataModule, CropStoreDataModule):
        monkeypatch.setattr(module, "prepare_data", lambda _: None)
    return built
