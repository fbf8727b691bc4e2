from __future__ import annotations

import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest

from alpharefine.data.coco import COCO, decode_mask
from alpharefine.data.got10k import GOT10k
from alpharefine.data.index import Index, default_cache_dir, open_index
from alpharefine.data.lasot import LaSOT
from alpharefine.data.mask_video import MaskVideo, Saliency
from alpharefine.data.reader import Reader, SequenceRecord
from alpharefine.errors import UserError


class Listed(Reader):
    """Sequences listed in a file. The class counts how often it is parsed."""

    parsed = 0

    def options(self) -> dict[str, object]:
        return {}

    def watched(self) -> Iterator[Path]:
        yield self.root / "list.txt"

    def records(self) -> Iterator[SequenceRecord]:
        type(self).parsed += 1
        for number, name in enumerate((self.root / "list.txt").read_text().split(), start=1):
            boxes_xywh = np.arange(4.0 * number).reshape(number, 4)
            yield SequenceRecord(name, [f"{i}.jpg" for i in range(number)], boxes_xywh, np.arange(number) % 2 == 0)

    def frame_path(self, name: str, frame_name: str) -> Path:
        return self.root / name / frame_name


@pytest.fixture
def listed(tmp_path: Path) -> Listed:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "list.txt").write_text("ant bee cat")
    Listed.parsed = 0
    return Listed(tmp_path / "data")


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "index").iterdir())


class TestContent:
    def test_flat_arrays(self, listed: Listed, tmp_path: Path) -> None:
        index = open_index(listed, tmp_path / "cache")
        assert len(index) == 3
        assert index.names.tolist() == ["ant", "bee", "cat"]
        assert index.starts.tolist() == [0, 1, 3, 6]
        assert [index.frames(s) for s in range(3)] == [slice(0, 1), slice(1, 3), slice(3, 6)]
        assert index.frame_names.tolist() == ["0.jpg", "0.jpg", "1.jpg", "0.jpg", "1.jpg", "2.jpg"]
        assert index.times.tolist() == [0, 0, 1, 0, 1, 2]
        assert index.visible.tolist() == [True, True, False, True, False, True]
        assert index.num_visible().tolist() == [1, 1, 2]
        assert index.boxes_xywh.dtype == np.float32
        assert index.boxes_xywh[3:].tolist() == np.arange(12.0).reshape(3, 4).tolist()
        assert index.mask_starts.size == 0

    def test_an_index_equals_the_records(self, data_root: Path, tmp_path: Path) -> None:
        readers = [
            LaSOT(data_root / "lasot"),
            GOT10k(data_root / "got10k"),
            COCO(data_root / "coco"),
            MaskVideo(data_root / "davis2016"),
            Saliency(data_root / "ecssd"),
        ]
        for reader in readers:
            index = open_index(reader, tmp_path)
            records = list(reader.records())
            assert index.names.tolist() == [r.name for r in records]
            assert index.object_ids.tolist() == [r.object_id for r in records]
            for sequence, record in enumerate(records):
                span = index.frames(sequence)
                assert index.frame_names[span].tolist() == record.frame_names
                assert np.array_equal(index.boxes_xywh[span], record.boxes_xywh.astype(np.float32))
                assert np.array_equal(index.visible[span], record.visible)
                assert np.array_equal(index.times[span], record.times)

    def test_masks_of_an_annotation_file(self, data_root: Path, tmp_path: Path) -> None:
        reader = COCO(data_root / "coco")
        index = open_index(reader, tmp_path)
        assert index.mask_sizes.tolist() == [[72, 96]] * len(index)
        for frame, record in enumerate(reader.records()):
            assert record.masks is not None
            assert index.mask_counts(frame) == record.masks[0]
            x, y, w, h = record.boxes_xywh[0].astype(int)
            mask = decode_mask(index.mask_counts(frame), (72, 96))
            assert mask[y : y + h, x : x + w].sum() > 0.95 * mask.sum() > 0

    def test_sequences_without_frames(self, tmp_path: Path) -> None:
        class Empty(Listed):
            def records(self) -> Iterator[SequenceRecord]:
                for name in "ab":
                    yield SequenceRecord(name, [], np.empty((0, 4)), np.empty(0, bool))

        (tmp_path / "list.txt").touch()
        index = open_index(Empty(tmp_path), tmp_path / "cache")
        assert index.num_visible().tolist() == [0, 0]


class TestSharing:
    def test_a_pickled_index_is_small_and_opens_again(self, data_root: Path, tmp_path: Path) -> None:
        index = open_index(GOT10k(data_root / "got10k"), tmp_path)
        pickled = pickle.dumps(index)
        assert len(pickled) < 1000
        again = pickle.loads(pickled)
        assert np.array_equal(again.boxes_xywh, index.boxes_xywh)
        assert again.names.tolist() == index.names.tolist()

    def test_arrays_are_mapped_and_cannot_be_written(self, listed: Listed, tmp_path: Path) -> None:
        index = open_index(listed, tmp_path / "cache")
        for name in Index.__annotations__:
            array = getattr(index, name)
            assert isinstance(array.base, np.memmap)
            assert not array.flags.writeable


class TestReuse:
    def test_the_data_are_parsed_once(self, listed: Listed, tmp_path: Path) -> None:
        first = open_index(listed, tmp_path / "cache")
        second = open_index(Listed(listed.root), tmp_path / "cache")
        assert Listed.parsed == 1
        assert second.folder == first.folder
        assert second.names.tolist() == first.names.tolist()

    def test_another_path_to_the_same_data(
        self, listed: Listed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_index(listed, tmp_path / "cache")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "link").symlink_to("data")
        for root in ("data", tmp_path / "link", "link"):
            open_index(Listed(root), tmp_path / "cache")
        assert Listed.parsed == 1

    def test_a_change_makes_another_index(self, listed: Listed, tmp_path: Path) -> None:
        old = open_index(listed, tmp_path / "cache")
        (listed.root / "list.txt").write_text("ant bee")
        new = open_index(listed, tmp_path / "cache")
        assert Listed.parsed == 2
        assert new.names.tolist() == ["ant", "bee"]
        assert kept(tmp_path / "cache") == sorted([old.folder.name, new.folder.name])

    def test_an_index_that_nobody_has_opened_for_a_week_is_removed(self, listed: Listed, tmp_path: Path) -> None:
        old = open_index(listed, tmp_path / "cache")
        for days, num_kept in ((6, 2), (8, 2)):
            long_ago = time.time() - days * 24 * 3600
            os.utime(old.folder, (long_ago, long_ago))
            (listed.root / "list.txt").write_text("ant bee" + " bee" * days)
            open_index(listed, tmp_path / "cache")
            assert len(kept(tmp_path / "cache")) == num_kept
        assert not old.folder.exists()
        assert old.names.tolist() == ["ant", "bee", "cat"]  # an open index stays readable

    def test_a_rewritten_file_of_the_same_size_is_noticed(self, listed: Listed, tmp_path: Path) -> None:
        open_index(listed, tmp_path / "cache")
        file = listed.root / "list.txt"
        before = file.stat()
        file.write_text("ant bee dog")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert open_index(listed, tmp_path / "cache").names.tolist() == ["ant", "bee", "dog"]

    def test_options_have_an_index_each(self, data_root: Path, tmp_path: Path) -> None:
        root = data_root / "got10k"
        readers = [GOT10k(root, "train_without_holdout"), GOT10k(root, "holdout"), GOT10k(root, "train")]
        folders = {open_index(reader, tmp_path).folder for reader in readers}
        folders |= {open_index(MaskVideo(data_root / "davis2016", area), tmp_path).folder for area in (100, 10_000)}
        assert len(folders) == len(kept(tmp_path)) == 5
        assert open_index(readers[1], tmp_path).names.tolist() == readers[1].names

    def test_where_it_is_kept(self, listed: Listed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALPHAREFINE_CACHE", str(tmp_path / "mine"))
        assert open_index(listed).folder.parent == tmp_path / "mine" / "index"
        monkeypatch.delenv("ALPHAREFINE_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert default_cache_dir() == tmp_path / "xdg" / "alpharefine"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert default_cache_dir() == tmp_path / ".cache" / "alpharefine"


def touch(path: str) -> Callable[[Path], object]:
    """Change the modification time of a file."""
    return lambda root: os.utime(root / path, ns=(0, (root / path).stat().st_mtime_ns + 1))


def add(path: str) -> Callable[[Path], object]:
    return lambda root: (root / path).touch()


@pytest.mark.parametrize(
    ("data_set", "read", "change"),
    [
        ("lasot", LaSOT, touch("ellipse/ellipse-1/groundtruth.txt")),
        ("lasot", LaSOT, touch("ellipse/ellipse-1/full_occlusion.txt")),
        ("lasot", LaSOT, touch("ellipse/ellipse-1/out_of_view.txt")),
        ("lasot", LaSOT, touch("training_set.txt")),
        ("lasot", LaSOT, add("ellipse/ellipse-1/img/new.txt")),
        ("got10k", GOT10k, touch("train/GOT-10k_Train_000002/groundtruth.txt")),
        ("got10k", GOT10k, touch("train/GOT-10k_Train_000002/absence.label")),
        ("got10k", GOT10k, touch("train/GOT-10k_Train_000002/cover.label")),
        ("got10k", GOT10k, touch("train/list.txt")),
        ("got10k", GOT10k, add("train/GOT-10k_Train_000002/new.txt")),
        ("coco", COCO, touch("annotations/instances_train2017.json")),
        ("coco", COCO, add("train2017/new.jpg")),
        ("davis2016", MaskVideo, touch("Annotations/480p/ellipse-1/00002.png")),
        ("davis2016", MaskVideo, add("JPEGImages/480p/ellipse-1/99999.jpg")),
        ("ecssd", Saliency, touch("ground_truth_mask/0001.png")),
        ("ecssd", Saliency, add("images/new.txt")),
    ],
)
def test_any_change_of_the_data_is_noticed(
    data_root: Path, tmp_path: Path, data_set: str, read: Callable[[Path], Reader], change: Callable[[Path], object]
) -> None:
    root = tmp_path / data_set
    shutil.copytree(data_root / data_set, root)
    before = open_index(read(root), tmp_path / "cache").folder
    assert open_index(read(root), tmp_path / "cache").folder == before
    change(root)
    assert open_index(read(root), tmp_path / "cache").folder != before


class TestFailure:
    def test_nothing_is_left_of_an_index_that_could_not_be_built(self, data_root: Path, tmp_path: Path) -> None:
        root = tmp_path / "got10k"
        shutil.copytree(data_root / "got10k", root)
        (root / "train/GOT-10k_Train_000005/cover.label").unlink()
        with pytest.raises(UserError, match=r"cover\.label: no such file"):
            open_index(GOT10k(root), tmp_path / "cache")
        assert not list((tmp_path / "cache").rglob("*"))

    def test_nothing_is_left_of_an_index_that_could_not_be_written(
        self, listed: Listed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(file: Path, array: np.ndarray) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "save", full)
        with pytest.raises(UserError, match=r"cannot write the index of .*data \(.*No space left.*\); free disk space"):
            open_index(listed, tmp_path / "cache")
        assert kept(tmp_path / "cache") == []

    def test_a_file_stands_where_the_cache_should(self, listed: Listed, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("mine")
        with pytest.raises(
            UserError, match=r"cache/index: cannot write the index .* `cache_dir` or \$ALPHAREFINE_CACHE"
        ):
            open_index(listed, tmp_path / "cache")

    def test_no_sequence(self, listed: Listed, tmp_path: Path) -> None:
        (listed.root / "list.txt").write_text("")
        with pytest.raises(UserError, match=r"Listed: .*data must contain at least one sequence, found none"):
            open_index(listed, tmp_path / "cache")

    def test_nothing_is_written_beside_the_data(self, data_root: Path, tmp_path: Path) -> None:
        root = tmp_path / "lasot"
        shutil.copytree(data_root / "lasot", root)
        folders = [root, *(p for p in root.rglob("*") if p.is_dir())]
        before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
        for folder in folders:
            folder.chmod(0o555)
        try:
            assert len(open_index(LaSOT(root), tmp_path / "cache")) == 3
        finally:
            for folder in folders:
                folder.chmod(0o755)
        assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


class Meeting(Listed):
    """Wait during parsing until another process also parses."""

    barrier: Barrier

    def records(self) -> Iterator[SequenceRecord]:
        records = list(super().records())
        self.barrier.wait(timeout=30)
        yield from records


def open_all(root: Path, caches: list[Path], barrier: Barrier, queue: Queue[list[list[str]]]) -> None:
    Meeting.barrier = barrier
    queue.put([open_index(Meeting(root), cache).names.tolist() for cache in caches])


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("outdated", [False, True], ids=["none there", "an outdated one there"])
def test_two_processes_build_at_once(listed: Listed, tmp_path: Path, outdated: bool) -> None:
    caches = [tmp_path / "caches" / str(i) for i in range(12)]
    Meeting.barrier = Barrier(1, ctx=get_context("fork"))
    for cache in caches if outdated else []:
        os.utime(open_index(Meeting(listed.root), cache).folder, (0, 0))
    (listed.root / "list.txt").write_text("dog eel")
    context = get_context("fork")
    barrier, queue = context.Barrier(2), context.Queue()
    workers = [context.Process(target=open_all, args=(listed.root, caches, barrier, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert found == [[["dog", "eel"]] * len(caches)] * 2
    for cache in caches:
        (folder,) = (cache / "index").iterdir()
        assert Index(folder).names.tolist() == ["dog", "eel"]
