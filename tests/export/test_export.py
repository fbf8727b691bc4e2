"""Exports against PyTorch: the backend, the refiner, the commands, the example, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import onnx
import pytest
import torch

from alpharefine import Refiner, UserError
from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.cli import evaluate, export, track
from alpharefine.export import files
from alpharefine.export.comparison import Difference, predict_with, require_agreement, sample_crops
from alpharefine.export.programs import Program, header_of
from alpharefine.inference.backend import CropPredictions
from alpharefine.inference.exported import HEADER_KEY, template_path
from alpharefine.inference.onnx_backend import OnnxBackend
from alpharefine.inference.refiner import Refinement
from alpharefine.inference.torch_backend import TorchBackend
from alpharefine.models import AlphaRefineNet, CornerHeadName, NetworkConfig
from alpharefine.models.heads import BoxHead
from tests.training_runs import PROJECT

pytestmark = pytest.mark.slow

FIRST_XYWH, ROUGH_XYWH = np.array([100.0, 80.0, 60.0, 44.0]), np.array([112.0, 88.0, 66.0, 40.0])


def command(ckpt: str | Path, format_name: str, output: Path, *options: str) -> None:
    export.main(["--ckpt", str(ckpt), "--format", format_name, "--output", str(output), *options])


def random_network(**config: Any) -> AlphaRefineNet:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = AlphaRefineNet(NetworkConfig("resnet18", **config)).eval()
    if isinstance(network.corner_head, BoxHead):
        network.corner_head.linear.weight.data.zero_()[:, 0] = 1e-6  # the exponential of large outputs overflows
    return network


def scene(shift: int) -> np.ndarray:
    """Frame ``(240, 320, 3)`` of a textured rectangle of `FIRST_XYWH`, moved to the right."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    frame, target = cv2.resize(noise[0] // 2, (320, 240)), cv2.resize(255 - noise[1] // 2, (60, 44))
    frame[80:124, 100 + shift : 160 + shift] = target
    return frame


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX export of the shipped weights; not to be changed."""
    path = tmp_path_factory.mktemp("onnx") / "ar18.onnx"
    command("ar18_cm", "onnx", path)
    return path


@pytest.fixture
def copied(shipped: Path, tmp_path: Path) -> Path:
    """Copy of the export, to be changed at will."""
    for path in (shipped, template_path(shipped)):
        shutil.copy(path, tmp_path)
    return tmp_path / shipped.name


# ---- ONNX ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip_test", [False, True])
def test_the_refiner_gives_what_it_gives_in_torch(shipped: Path, flip_test: bool) -> None:
    found, expected = (Refiner.from_checkpoint(ckpt, "cpu", flip_test=flip_test) for ckpt in (shipped, "ar18_cm"))
    assert isinstance(found.backend, OnnxBackend)
    assert (found.backend.device, found.backend.precision) == ("cpu", "32")
    assert (found.heads, found.geometry) == (("corner", "mask"), "exact")
    one, other = map(_refined, (found, expected))
    np.testing.assert_allclose(one.box_xywh, other.box_xywh, atol=1e-3)
    assert one.score == pytest.approx(other.score, abs=1e-4)
    assert one.mask is not None
    assert other.mask is not None
    np.testing.assert_allclose(one.mask, other.mask, atol=1e-3)
    np.testing.assert_allclose(other.box_xywh, [109, 80, 60, 44], atol=4)  # the target is found at all


def test_a_batch_gives_what_its_crops_give(shipped: Path) -> None:
    backend = OnnxBackend(shipped, "cpu", num_threads=2)
    crops, targets_xyxy = sample_crops(3)
    together = predict_with(backend)(crops, targets_xyxy)
    for i, crop in enumerate(crops):
        alone = predict_with(backend)([crop], targets_xyxy[i : i + 1])
        for one, other in zip(together, alone, strict=True):
            assert one is not None
            assert other is not None
            np.testing.assert_allclose(one[i], other[0], atol=1e-4)


def test_only_requested_heads_are_returned(shipped: Path) -> None:
    backend = OnnxBackend(shipped, "cpu")
    crops, targets_xyxy = sample_crops(1)
    kernels = backend.encode_templates(crops, targets_xyxy)
    assert backend.predict(crops, kernels, ["corner"]).masks is None
    only_mask = backend.predict(crops, kernels, ["mask"])
    assert only_mask.crop_xyxy is None
    assert only_mask.masks is not None
    assert only_mask.masks.shape == (1, 256, 256)


def test_the_files_describe_themselves(shipped: Path) -> None:
    expected = [
        (shipped, {"crops": ["batch", 256, 256, 3], "kernels": ["batch", 256, 8, 8]}, ["crop_xyxy", "score", "mask"]),
        (template_path(shipped), {"crops": ["batch", 256, 256, 3]}, ["kernels"]),
    ]
    for path, inputs, outputs in expected:
        model = onnx.load(path)
        onnx.checker.check_model(model)
        found = {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
        assert found == inputs
        assert [output.name for output in model.graph.output] == outputs
        assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
        entry, digest = model.metadata_props
        assert (digest.key, len(digest.value)) == ("alpharefine_sha256", 64)
        header = json.loads(entry.value)
        assert (entry.key, header["format"], header["precision"]) == (HEADER_KEY, 1, "32")
        assert header["part"] == ("search" if path == shipped else "template")
        assert (header["network"]["geometry"], header["network"]["heads"]) == ("exact", ["corner", "mask"])
        assert str(PROJECT).encode() not in path.read_bytes()  # no paths of the machine that exported


def test_8_bits(shipped: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small.onnx"
    command("ar18_cm", "onnx", path, "--precision", "8")
    assert "difference from PyTorch: " in capsys.readouterr().out
    assert path.stat().st_size < 0.3 * shipped.stat().st_size
    assert Refiner.from_checkpoint(path, "cpu", precision="8").backend.precision == "8"
    model = onnx.load(path)
    scaled = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    assert [set(node.input) <= scaled for node in convs] == [False] + [True] * (len(convs) - 1)
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    integers = [values for values in weights.values() if values.dtype == np.int8]
    assert len(integers) >= len(convs) - 1
    assert max(np.abs(values).max() for values in integers) == 64  # 7 bits: see `quantize`
    refiners = [Refiner.from_checkpoint(ckpt, "cpu") for ckpt in (path, shipped)]
    assert (refiners[0].backend.precision, refiners[0].heads) == ("8", ("corner", "mask"))
    one, other = (_refined(refiner) for refiner in refiners)
    np.testing.assert_allclose(one.box_xywh, other.box_xywh, atol=2)
    assert one.score == pytest.approx(other.score, abs=0.1)
    assert one.mask is not None
    assert other.mask is not None
    assert np.mean((one.mask > 0.5) != (other.mask > 0.5)) < 0.01
    np.testing.assert_array_equal(_refined(refiners[0]).box_xywh, refiners[0].refine(scene(9), ROUGH_XYWH).box_xywh)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert Refiner.from_checkpoint(path).backend.device == "cpu"
    with pytest.raises(UserError, match="A file in 8 bits is for CPUs, got the device 'cuda:0'"):
        Refiner.from_checkpoint(path, "cuda:0")


def _refined(refiner: Refiner) -> Refinement:
    refiner.initialize(scene(0), FIRST_XYWH)
    return refiner.refine(scene(9), ROUGH_XYWH, mask=True)


@pytest.mark.exhaustive
def test_8_bits_of_a_fixed_batch_and_a_sliding_neck(tmp_path: Path) -> None:
    network = random_network(neck="depthwise", heads=("mask",), geometry="original")
    difference = files.save_programs(network, tmp_path / "fixed.onnx", "onnx", "8", batch_size=5)
    assert 0 < difference.prob < 0.5
    backend = OnnxBackend(tmp_path / "fixed.onnx", "cpu")
    assert (backend.geometry, backend.precision) == ("original", "8")


@pytest.mark.exhaustive
def test_a_fixed_batch_in_16_bits_of_a_sliding_neck(tmp_path: Path) -> None:
    network = random_network(neck="depthwise", corner_head="extreme", geometry="original")
    path = tmp_path / "fixed.onnx"
    difference = files.save_programs(network, path, "onnx", "16", batch_size=2)
    assert 0 < difference.box_px < 0.5
    model = onnx.load(path)
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [2, 256, 256, 3]
    types = {tensor.data_type for tensor in model.graph.initializer if np.prod(tensor.dims) > 1000}
    assert onnx.TensorProto.FLOAT16 in types
    backend = OnnxBackend(path, "cpu")
    assert (backend.geometry, backend.precision) == ("original", "16")
    samples = sample_crops(3)  # one full batch, and one that is filled up
    found, expected = predict_with(backend)(*samples), predict_with(TorchBackend(network, "cpu", "32"))(*samples)
    for one, other, atol in zip(found, expected, (0.5, 0.05, 0.05), strict=True):
        assert one is not None
        assert other is not None
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=atol)


@pytest.mark.exhaustive
@pytest.mark.parametrize("corner_head", get_args(CornerHeadName))
def test_every_corner_head_in_onnx(corner_head: CornerHeadName, tmp_path: Path) -> None:
    network = random_network(heads=("corner",), corner_head=corner_head, quality_head="convolutions")
    assert files.save_programs(network, tmp_path / "a.onnx", "onnx").box_px < 0.01


@pytest.mark.exhaustive
@pytest.mark.parametrize("neck", ["naive", "depthwise"])
def test_sliding_necks_in_onnx_with_a_mask(neck: Any, tmp_path: Path) -> None:
    network = random_network(heads=("mask",), neck=neck, mask_head="simple")
    assert files.save_programs(network, tmp_path / "a.onnx", "onnx").prob < 1e-3


# ---- commands ------------------------------------------------------------------------------------------------------


def test_evaluate_takes_the_export(shipped: Path, root: Path, tmp_path: Path, capsys: Any) -> None:
    outputs = []
    for name, ckpt in (("onnx", str(shipped)), ("torch", "ar18_cm")):
        evaluate.main(["--tracker=oracle", f"--data_root={root}", f"--ckpt={ckpt}", f"--output_dir={tmp_path / name}"])
        outputs.append(
            {path.name: np.loadtxt(path, delimiter=",") for path in (tmp_path / name).rglob("refined/*.txt")}
        )
    assert f"{shipped}: ONNX export in 32 bits; backbone resnet18" in capsys.readouterr().out
    assert len(outputs[1]) >= 3
    for name, rows in outputs[1].items():
        np.testing.assert_allclose(outputs[0][name], rows, atol=0.05)


def test_track_takes_the_export(shipped: Path, tmp_path: Path) -> None:
    for shift in range(3):
        cv2.imwrite(str(tmp_path / f"{shift}.png"), scene(3 * shift)[..., ::-1])
    box = ",".join(map(str, FIRST_XYWH))
    track.main([str(tmp_path), "--box", box, "--ckpt", str(shipped), "--output", str(tmp_path / "out.mp4")])
    refined = np.loadtxt(tmp_path / "out.txt", delimiter=",")
    np.testing.assert_allclose(refined[-1], [106, 80, 60, 44], atol=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--geometry=original"], r"was exported in the geometry exact, got `--geometry original`; export"),
        (["--precision=16"], r"was exported in 32 bits, got `--precision 16`; export"),
        (["--precision=8", "--ckpt=ar18_cm"], "Only an ONNX file computes in 8 bits: write it by `alpharefine export"),
    ],
)
def test_evaluate_refuses_what_the_export_has_not(
    shipped: Path, root: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    arguments = ["--tracker=oracle", f"--data_root={root}", f"--ckpt={shipped}", f"--output_dir={tmp_path / 'out'}"]
    with pytest.raises(UserError, match=message):
        evaluate.main([*arguments, *options])


ALLOWED = """
import sys, runpy
class Finder:
    def find_spec(self, name, path=None, target=None):
        top = name.partition('.')[0]
        if top not in sys.stdlib_module_names | {'numpy', 'cv2', 'onnxruntime'}:
            raise ModuleNotFoundError(f'{name} is not allowed here', name=name)
sys.meta_path.insert(0, Finder())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""
"""Program that runs a file whose imports are limited to the standard library, numpy, OpenCV and ONNX Runtime."""


def test_the_example_needs_numpy_opencv_and_onnxruntime_alone(shipped: Path, tmp_path: Path) -> None:
    frames, boxes_xywh = [scene(0), scene(9)], [FIRST_XYWH, ROUGH_XYWH]
    arguments = [str(shipped)]
    for i, box_xywh in enumerate(boxes_xywh):
        cv2.imwrite(str(tmp_path / f"{i}.png"), frames[i][..., ::-1])
        arguments += [str(tmp_path / f"{i}.png"), ",".join(map(str, box_xywh))]
    example, mask_file = PROJECT / "examples" / "onnx_refiner.py", tmp_path / "mask.png"
    program = [sys.executable, "-c", ALLOWED, str(example), *arguments, str(mask_file)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    refiner = Refiner.from_checkpoint("ar18_cm", "cpu")
    refiner.initialize(frames[0], boxes_xywh[0])
    expected = refiner.refine(frames[1], boxes_xywh[1], mask=True)
    box, _, score = done.stdout.split()
    np.testing.assert_allclose([float(value) for value in box.split(",")], expected.raw_box_xywh, atol=0.02)
    assert float(score) == pytest.approx(expected.score, abs=1e-3)
    mask = cv2.imread(str(mask_file), cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    assert expected.mask is not None
    assert np.mean((mask == 255) != (expected.mask > 0.5)) < 1e-3
    assert len(example.read_text().splitlines()) <= 40


# ---- torch.export --------------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_programs_of_torch_export_are_loaded_again(tmp_path: Path, capsys: Any) -> None:
    network = random_network(neck="naive", corner_head="box", mask_head="simple")
    weights, path = tmp_path / "a.safetensors", tmp_path / "a.pt2"
    files.save_weights(network, weights)
    command(weights, "torch_export", path)
    assert "difference from PyTorch: " in capsys.readouterr().out
    texts = {HEADER_KEY: ""}
    template, search = (torch.export.load(each, extra_files=texts).module() for each in (template_path(path), path))
    assert json.loads(texts[HEADER_KEY])["network"]["corner_head"] == "box"
    crops, targets_xyxy = sample_crops(3)
    images, targets = torch.from_numpy(np.stack(crops)), torch.from_numpy(targets_xyxy).float()
    with torch.inference_mode():
        outputs = search(crops=images, kernels=template(crops=images, targets_xyxy=targets))
    for one, other in zip(outputs, predict_with(TorchBackend(network, "cpu", "32"))(crops, targets_xyxy), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    with pytest.raises(UserError, match=r"a\.pt2 is a program for `torch\.export\.load`; give a checkpoint or"):
        Refiner.from_checkpoint(path)


# ---- errors --------------------------------------------------------------------------------------------------------


def test_heads_can_be_left_out(tmp_path: Path) -> None:
    command("ar18_cm", "safetensors", tmp_path / "a.safetensors", "--heads", "corner")
    loaded, whole = (load_checkpoint(each).network for each in (tmp_path / "a.safetensors", "ar18_cm"))
    assert loaded.config == replace(whole.config, heads=("corner",))
    assert not any(name.startswith("mask_head") for name in loaded.state_dict())
    with pytest.raises(UserError, match=r"`--heads`: the network has the heads \['corner'\], got \['mask'\]"):
        command(tmp_path / "a.safetensors", "safetensors", tmp_path / "b.safetensors", "--heads", "corner,mask")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format=onnx", "--output=a.pt2"], r"`--output` of `--format onnx` must end in \.onnx, got a\.pt2"),
        (["--format=onnx", "--output=a.onnx", "--batch_size=0"], "`--batch_size` must be at least 1, got 0"),
        (["--format=safetensors", "--output=a.safetensors", "--precision=16"], "`--precision` applies to onnx and"),
        (["--format=safetensors", "--output=a.safetensors", "--batch_size=1"], "`--batch_size` applies to onnx and"),
        (
            ["--format=torch_export", "--output=a.pt2", "--precision=8"],
            "`--precision 8` is only possible with `--format o",
        ),
        (["--format=onnx", "--output=nowhere/a.onnx"], "nowhere must be an existing folder"),
        (["--format=onnx", "--output=old.onnx"], r"old\.onnx exists, and is not overwritten"),
        (["--format=onnx", "--output=half.onnx"], r"half_template\.onnx exists, and is not overwritten"),
    ],
)
def test_unfit_options(arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("old.onnx", "half_template.onnx"):
        Path(name).write_text("kept")
    with pytest.raises(UserError, match=message):
        export.main(["--ckpt=ar18_cm", *arguments])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("old.onnx", "half_template.onnx"), "kept"
    )


def test_an_export_is_not_exported_again(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`--ckpt`: .*ar18\.onnx is an export; give the checkpoint that it was made"):
        command(shipped, "onnx", tmp_path / "again.onnx", "--precision", "8")


def test_files_that_differ_from_the_network_are_not_written(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_checkpoint("ar18_cm").network
    with torch.no_grad():
        network.corner_head.top_left[-1].weight.mul_(1.5)

    def write_another(program: Any, header: Any, path: Path) -> None:
        shutil.copy(shipped if program.part == "search" else template_path(shipped), path)

    programs = [Program("template", None, [], []), Program("search", None, [], [])]
    monkeypatch.setattr(files, "trace", lambda *_: programs)
    monkeypatch.setitem(files._WRITERS, "onnx", write_another)
    with pytest.raises(
        UserError, match=r"differ from the network in PyTorch by .* px in the boxes.* Nothing was written"
    ):
        files.save_programs(network, tmp_path / "a.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "agrees"), [((0.04, 0.005), True), ((0.06, 0), False), ((0, 0.02), False), ((float("nan"), 0), False)]
)
def test_the_limits_of_agreement(change: tuple[float, float], agrees: bool) -> None:
    def predict(crops: list[np.ndarray], targets_xyxy: np.ndarray, box: float = 0.0, prob: float = 0.0) -> Any:
        return CropPredictions(targets_xyxy + box, np.full(len(crops), 0.5) + prob, np.full((len(crops), 4, 4), 0.5))

    def changed(crops: list[np.ndarray], targets_xyxy: np.ndarray) -> CropPredictions:
        return predict(crops, targets_xyxy, *change)

    if agrees:
        assert require_agreement(changed, predict, "32", None) == pytest.approx(Difference(*change))
    else:
        with pytest.raises(UserError, match="The exported files differ"):
            require_agreement(changed, predict, "32", None)
        if np.isfinite(change).all():
            require_agreement(changed, predict, "16", None)


def test_a_network_that_cannot_be_traced(tmp_path: Path) -> None:
    network = random_network(heads=("corner",))
    network.backbone.forward = lambda images: images * float(images.sum())
    with pytest.raises(
        UserError, match=r"`--format onnx` cannot express the network backbone resnet18.*; export it as"
    ):
        files.save_programs(network, tmp_path / "a.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_files_of_two_exports(copied: Path) -> None:
    header = header_of(random_network(), "32")
    model = onnx.load(template_path(copied))
    model.metadata_props[0].value = header.to_json("template")
    onnx.save(model, template_path(copied))
    with pytest.raises(UserError, match=r"ar18_template\.onnx and .*ar18\.onnx are of different exports; export"):
        Refiner.from_checkpoint(copied)


def test_a_weight_that_has_changed(copied: Path) -> None:
    for path in (template_path(copied), copied):
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(64)
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{path.name} has other weights than it was exported with; copy it"):
            Refiner.from_checkpoint(copied)


def test_unfit_files(copied: Path) -> None:
    with pytest.raises(UserError, match=r"_template\.onnx must hold the search network in format 1, got the template"):
        Refiner.from_checkpoint(template_path(copied))
    template_path(copied).unlink()
    with pytest.raises(UserError, match=r"No file .*ar18_template\.onnx; an export consists of <name>\.onnx and"):
        Refiner.from_checkpoint(copied)
    for value, message in (
        ("{", "has a damaged header"),
        ('{"format": 2, "part": "search", "network": {"new": 1}}', r"in format 1, got the search network in format 2"),
        (None, "is no file of `alpharefine export`"),
    ):
        model = onnx.load(copied)
        if value is None:
            del model.metadata_props[:]
        else:
            model.metadata_props[0].value = value
        onnx.save(model, copied)
        with pytest.raises(UserError, match=message):
            Refiner.from_checkpoint(copied)
    copied.write_bytes(copied.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"ar18\.onnx cannot be read as an ONNX network \("):
        Refiner.from_checkpoint(copied)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "ONNX Runtime has no CUDA provider for the device 'cuda'"),
        ("mps", "must be auto, cpu, cuda or cuda:<num"),
    ],
)
def test_unfit_devices(shipped: Path, device: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Refiner.from_checkpoint(shipped, device)


def test_missing_packages(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    remedy = r"`pip install 'alpharefine\[onnx\]'`"
    with pytest.raises(UserError, match=f"ONNX files require onnx, onnxruntime; {remedy}"):
        Refiner.from_checkpoint(shipped)
    with pytest.raises(UserError, match=f"ONNX files require onnx, onnxscript, onnxruntime; {remedy}"):
        command("ar18_cm", "onnx", tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []
