from __future__ import annotations

from pathlib import Path
from typing import get_args
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torchvision.models.feature_extraction import create_feature_extractor

from alpharefine.checkpoints.backbone import load_backbone_weights
from alpharefine.errors import UserError
from alpharefine.models import BackboneName, build_backbone
from alpharefine.models.backbone import BlockBackbone

NAMES = ["resnet18", "resnet34"]


def imagenet_like(name: str) -> torch.nn.Module:
    """A classifier whose batch norms are not the identity."""
    torch.manual_seed(1)
    resnet = getattr(torchvision.models, name)(weights=None).eval()
    for module in resnet.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, low, high in (
                (module.weight, 0.5, 1.0),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
            ):
                torch.nn.init.uniform_(values, low, high)
    return resnet


def save(state: dict[str, torch.Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", get_args(BackboneName))
def test_every_backbone_is_cut_off_where_its_stride_is_16(tmp_path, name) -> None:
    classifier = imagenet_like(name)
    backbone = build_backbone(name).eval()
    load_backbone_weights(backbone, name, str(save(classifier.state_dict(), tmp_path / "weights.safetensors")))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    nodes = ["relu", "layer1", "layer2", "layer3"]
    if isinstance(backbone, BlockBackbone):
        nodes = [f"features.{block}" for block in backbone.stage_ends]
    with torch.no_grad():
        expected = create_feature_extractor(classifier, nodes)(images)
        taps = backbone(images)
    assert [x.shape[1:] for x in taps] == [(c, 32 // 2**i, 32 // 2**i) for i, c in enumerate(backbone.channels)]
    for tap, reference in zip(taps, expected.values(), strict=True):
        assert torch.equal(tap, reference)
    parameters = [id(parameter) for stage in backbone.stages for module in stage for parameter in module.parameters()]
    assert sorted(parameters) == sorted(map(id, backbone.parameters()))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", NAMES)
def test_feature_maps_are_torchvisions_with_weights_from_a_file(tmp_path, name, suffix) -> None:
    resnet = imagenet_like(name)
    backbone = build_backbone(name).eval()
    load_backbone_weights(backbone, name, str(save(resnet.state_dict(), tmp_path / f"weights{suffix}")))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = create_feature_extractor(resnet, ["relu", "layer1", "layer2", "layer3"])(images)
        taps = backbone(images)
    assert [x.shape[1:] for x in taps] == [(64, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4)]
    for tap, reference in zip(taps, expected.values(), strict=True):
        assert torch.equal(tap, reference)


@pytest.mark.parity
def test_imagenet_weights_without_the_unused_layers(shared) -> None:
    path = shared / "weights" / "resnet18_imagenet_layer3.safetensors"
    backbone = build_backbone("resnet18")
    load_backbone_weights(backbone, "resnet18", str(path))
    weights = load_file(path)
    assert backbone.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in backbone.state_dict().items())


def test_old_files_count_no_batches(tmp_path) -> None:
    state = {k: v for k, v in imagenet_like("resnet18").state_dict().items() if not k.endswith("num_batches_tracked")}
    backbone = build_backbone("resnet18")
    load_backbone_weights(backbone, "resnet18", str(save(state, tmp_path / "old.pth")))
    assert torch.equal(backbone.layer3[1].bn2.running_var, state["layer3.1.bn2.running_var"])


def test_imagenet_weights_come_from_torchvisions_first_set(monkeypatch) -> None:
    resnet, asked = imagenet_like("resnet18"), []

    def download(self, **options):
        asked.append((self.name, options["check_hash"]))
        return resnet.state_dict()

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", download)
    backbone = build_backbone("resnet18")
    load_backbone_weights(backbone, "resnet18", "imagenet")
    assert asked == [("IMAGENET1K_V1", True)]
    assert torch.equal(backbone.conv1.weight, resnet.conv1.weight)


class TestMistakes:
    def refusal(self, source: object, name: str = "resnet18") -> str:
        backbone = build_backbone(name)
        with pytest.raises(UserError) as caught:
            load_backbone_weights(backbone, name, str(source))
        message = str(caught.value)
        assert message.startswith("`backbone_weights`: ")
        assert "\n" not in message
        assert len(message) < 600
        return message

    def test_no_file(self, tmp_path) -> None:
        message = self.refusal(tmp_path / "none.pth")
        assert f"no file {tmp_path / 'none.pth'}" in message
        assert "'imagenet', an existing file, or null" in message

    def test_a_folder(self, tmp_path) -> None:
        assert "no file" in self.refusal(tmp_path)

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    @pytest.mark.parametrize(
        "content",
        [b"", b"hello world", b"<html>404</html>", b"PK\x03\x04 not a zip file", b"\x80\x02]q\x00.", b"\x80\x02(1"],
        ids=["empty", "text", "web page", "cut zip", "pickled list", "cut pickle"],
    )
    def test_not_a_weight_file(self, tmp_path, content, suffix) -> None:
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(content)
        message = self.refusal(path)
        assert str(path) in message
        assert "is cut short or no checkpoint at all" in message

    def test_code_in_a_file_is_not_run(self, tmp_path) -> None:
        ran = tmp_path / "ran"

        class Evil:
            def __reduce__(self):
                return (Path.touch, (ran,))

        torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pth")
        assert "It was not loaded: it may be malicious" in self.refusal(tmp_path / "evil.pth")
        assert not ran.exists()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([torch.ones(1)], "holds a list, no checkpoint"),
            (torch.ones(1), "holds a Tensor, no checkpoint"),
            ({"state_dict": {"a": 1}}, "holds no named tensors (it holds state_dict)"),
            ({1: torch.ones(1)}, "must hold named tensors and nothing else, got '1' with a Tensor"),
            ({"a": torch.ones(1), "b": 3}, "must hold named tensors and nothing else, got 'b' with a int"),
        ],
    )
    def test_something_else_than_named_tensors(self, tmp_path, content, message) -> None:
        torch.save(content, tmp_path / "weights.pth")
        assert message in self.refusal(tmp_path / "weights.pth")

    @pytest.mark.parametrize(("stored", "wanted"), [("resnet34", "resnet18"), ("resnet18", "resnet34")])
    def test_another_network(self, tmp_path, stored, wanted) -> None:
        path = save(imagenet_like(stored).state_dict(), tmp_path / "weights.safetensors")
        assert f"does not hold a {wanted} with torchvision" in self.refusal(path, wanted)

    def test_a_missing_key_is_named(self, tmp_path) -> None:
        state = imagenet_like("resnet18").state_dict()
        del state["layer2.0.conv1.weight"]
        assert "layer2.0.conv1.weight" in self.refusal(save(state, tmp_path / "weights.pth"))

    def test_no_connection(self, monkeypatch) -> None:
        def fail(self, **options):
            raise URLError("no route to host")

        monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", fail)
        message = self.refusal("imagenet")
        assert "https://download.pytorch.org/models/resnet18" in message
        assert "cannot be downloaded" in message
        assert "no route to host" in message
