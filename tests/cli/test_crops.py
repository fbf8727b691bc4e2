"""`alpharefine crops` writes a store that training reads in place of the frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alpharefine.cli import crops as command
from alpharefine.cli.main import main
from alpharefine.crops import Window
from alpharefine.data.crop_store import find_parts, read_parts
from alpharefine.data.pairs import FrameFile
from alpharefine.errors import UserError
from datamodules import PairDataModule, Source
from tests.training_runs import SMALL, arguments

CONFIG = """
data:
  class_path: datamodules.{module}
  init_args:
    train:
      videos: {{kind: mask_video, path: davis2016}}
      boxes: {{kind: lasot, path: lasot}}
      pictures: {{kind: saliency, path: ecssd}}
"""
TRAIN = {
    "videos": Source("mask_video", "davis2016"),
    "boxes": Source("lasot", "lasot"),
    "pictures": Source("saliency", "ecssd"),
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(CONFIG.format(module="PairDataModule"))
    return path


def write(config: Path, data_root: Path, folder: Path, *options: str) -> Path:
    main(["crops", str(config), "--data.root", str(data_root), "--output", str(folder), *options])
    return folder


def module(data_root: Path, store: Path | None, train: dict[str, Source] = TRAIN) -> PairDataModule:
    return PairDataModule(str(data_root), train, train, store=None if store is None else str(store))


def test_the_store_holds_the_sequences_that_pairs_are_drawn_from(
    config: Path, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(config, data_root, tmp_path / "store")
    assert capsys.readouterr().out.startswith(f"{folder}: crop store of ")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    stored, plain = module(data_root, folder).train_dataset, module(data_root, None).train_dataset
    for ours, reference in zip(stored.sources, plain.sources, strict=True):
        assert len(ours.sequences) == len(reference.sequences)
        for sequence in range(len(ours.sequences)):
            position = ours.sequences[sequence]
            other = reference.sequences[sequence]
            assert str(ours.index.names[position]).startswith(str(reference.index.names[other]))
            times = set(ours.index.times[ours.index.frames(position)].tolist())
            assert times <= set(reference.index.times[reference.index.frames(other)].tolist())


@pytest.mark.parametrize(("options", "tolerance"), [((), 4.0), (("--uncompressed",), 0.0)])
def test_stored_boxes_masks_and_pictures_are_those_of_the_frames(
    config: Path, data_root: Path, tmp_path: Path, options: tuple[str, ...], tolerance: float
) -> None:
    """The targets are small, so their crops are stored at full resolution, and a window shows the same in both."""
    folder = write(config, data_root, tmp_path / "store", *options)
    stored, plain = module(data_root, folder).train_dataset, module(data_root, None).train_dataset
    for ours, reference in zip(stored.sources, plain.sources, strict=True):
        num_masks = 0
        for sequence, other in zip(ours.sequences, reference.sequences, strict=True):
            span, others = ours.index.frames(sequence), reference.index.frames(other)
            time = int(ours.index.times[span.start])
            frame = others.start + int(np.flatnonzero(reference.index.times[others] == time)[0])
            small = FrameFile(ours.reader, ours.index, sequence, span.start, ours.reader.has_masks)
            large = FrameFile(reference.reader, reference.index, other, frame, reference.reader.has_masks)
            shift = large.box_xywh - small.box_xywh
            np.testing.assert_allclose(shift, [*shift[:2].round(), 0, 0], atol=1e-4)
            window = Window.around(large.box_xywh)
            moved = Window(window.x0 - round(shift[0]), window.y0 - round(shift[1]), window.width, window.height)
            crop, expected = small.cut(moved), large.cut(window)
            assert np.abs(crop.images[0].astype(int) - expected.images[0]).mean() <= tolerance
            assert np.array_equal(crop.mask, expected.mask)  # None without masks
            num_masks += crop.mask is not None
        assert num_masks == (len(ours.sequences) if ours.reader.has_masks else 0)


def test_one_changed_line_trains_from_the_store(data_root: Path, tmp_path: Path) -> None:
    folder = write(SMALL, data_root, tmp_path / "store")
    main(["train", *arguments(data_root, tmp_path, data__store=folder, data__num_workers=2)])
    assert (tmp_path / "small" / "checkpoints" / "last.ckpt").is_file()


def test_max_frames_and_their_default(data_root: Path, config: Path, tmp_path: Path) -> None:
    few = read_parts(find_parts(write(config, data_root, tmp_path / "few", "--max_frames", "2")))
    videos = [crop.sequence for crop in few if not crop.sequence.startswith("pictures")]
    assert {videos.count(name) for name in videos} == {2}
    device = tmp_path / "device.yaml"
    device.write_text(CONFIG.format(module="CropStoreDataModule") + "    max_frames: 3\n")
    few = read_parts(find_parts(write(device, data_root, tmp_path / "device")))
    videos = [crop.sequence for crop in few if crop.sequence.startswith("boxes")]
    assert {videos.count(name) for name in videos} == {3}


def test_an_interrupted_command_leaves_nothing(
    config: Path, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> object:
        yield from list(complete(*args))[:3]  # type: ignore[arg-type]
        raise KeyboardInterrupt

    complete = command._crops
    monkeypatch.setattr(command, "_crops", interrupted)
    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        write(config, data_root, tmp_path / "store")
    assert set(tmp_path.iterdir()) == before
    monkeypatch.setattr(command, "_crops", complete)
    assert find_parts(write(config, data_root, tmp_path / "store"))


def test_what_is_refused(config: Path, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(config, data_root, tmp_path / "store", "--max_frames", "2")
    with pytest.raises(UserError, match="store contains a crop store; remove it, or give another folder"):
        write(config, data_root, folder)
    with pytest.raises(UserError, match="is not an empty folder; give a new folder"):
        write(config, data_root, tmp_path)
    with pytest.raises(UserError, match=r"`--max_frames` must be at least 1, got 0"):
        write(config, data_root, tmp_path / "other", "--max_frames", "0")
    with pytest.raises(UserError, match=r"MaskVideo: folder .* does not exist"):
        write(config, tmp_path / "nowhere", tmp_path / "other")
    monkeypatch.setattr("alpharefine.data.crop_store.read_crops", None)  # faults are found before the first cut
    sets = "data: {class_path: datamodules.CropStoreDataModule, train: {a: {kind: got10k, path: got10k}"
    for text, message in (
        ("data: {class_path: datamodules.GOT10kDataModule}", "needs `data.train` of datamodules.PairDataModule or"),
        ("data: {class_path: my.Own, train: {a: {kind: coco, path: a}}}", "got my.Own; give a configuration"),
        ("data: {train: [a]}", r"`data\.train` must hold data sets by name, got \['a'\]"),
        (sets + ", b: {kind: salency, path: b}}}", r"`data\.train\.b`: `kind` must be one of"),
        (sets + ", b: {kind: coco, path: b}}}", "COCO: .* does not exist"),
        (sets + ", b: {kind: coco, path: b, wieght: 2}}}", r"`data\.train\.b` must have `kind` and `path`, and may"),
        (sets + "}, holdout: {b: [x]}}", r"`data\.holdout`: b is not in `data\.train`"),
    ):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            write(tmp_path / "bad.yaml", data_root, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(UserError, match=r"`data\.store`: .* has no data set more, only boxes, pictures, videos; write"):
        _ = module(data_root, folder, {"more": Source("lasot", "lasot")}).train_dataset
    with pytest.raises(UserError, match=r"contains no crop store .*; write it with `alpharefine crops`"):
        _ = module(data_root, tmp_path).train_dataset
