"""Entries of the trackers in this package. Importing this module loads no tracker's implementation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

from alpharefine.trackers.entry import LoadedTracker, TrackerEntry, TrackerRequest, no_code_files, refuse


def _imported(implementation: str) -> Callable[[Any], Any]:
    """Return a function of ``module:function`` below `alpharefine.trackers` that imports the module when called."""
    module, _, function = implementation.partition(":")

    def call(argument: Any) -> Any:
        return getattr(import_module(f"alpharefine.trackers.{module}"), function)(argument)

    return call


def _official(
    name: str, implementation: str, official_file: str, summary: str, reports_lost: bool = False
) -> TrackerEntry:
    """Return the entry of a tracker in PyTorch with one file of its authors."""
    return TrackerEntry(
        name=name,
        summary=summary,
        load=_imported(implementation),
        roles=("network",),
        official_file=official_file,
        gives_score=True,
        reports_lost=reports_lost,
        runs_in_torch=True,
    )


def _dimp(name: str, official_file: str, summary: str) -> TrackerEntry:
    return _official(name, "dimp.loading:load", official_file, summary, reports_lost=True)


def _siamrpnpp(name: str, folder: str, summary: str, reports_lost: bool = False) -> TrackerEntry:
    return _official(name, "siamrpnpp.tracker:load", f"{folder}/model.pth", summary, reports_lost)


def _oracle_over(inner: TrackerEntry) -> TrackerEntry | None:
    """Return the entry of a tracker that is moved to the true center after every frame; None if it cannot be moved."""
    can_be_moved = inner.accepts_feedback and inner.needs_frames and not inner.opens_files
    if not can_be_moved or inner.requires_refiner or inner.is_family or inner is CUSTOM:
        return None

    def load(request: TrackerRequest) -> LoadedTracker:
        from alpharefine.trackers.oracle import center_on_truth

        return center_on_truth(inner.load(replace(request, name=inner.name)))

    return replace(
        inner,
        name=f"oracle:{inner.name}",
        needs_truth=True,
        summary=f"`{inner.name}`, moved to the true center after every frame",
        load=load,
        code_files=no_code_files if inner.code_files is no_code_files else lambda _: inner.code_files(inner.name),
    )


CUSTOM = TrackerEntry(
    name="package.module:Class",
    summary="your own class with the methods of `alpharefine.trackers.Tracker`",
    load=_imported("custom:load"),
    takes_any_weights=True,
    gives_score=True,
    reports_lost=True,
    code_files=_imported("custom:code_files"),
)
"""Entry of the classes that are named by their import path; `find_tracker` replaces its name."""

ENTRIES: tuple[TrackerEntry, ...] = (
    _dimp("dimp", "super_dimp.pth.tar", "SuperDiMP, the base tracker of ARDiMP; same as `super_dimp`"),
    _dimp("dimp18", "dimp18.pth", "DiMP with ResNet-18"),
    _dimp("dimp50", "dimp50.pth", "DiMP with ResNet-50"),
    _dimp("prdimp18", "prdimp18.pth.tar", "PrDiMP with ResNet-18"),
    _dimp("prdimp50", "prdimp50.pth.tar", "PrDiMP with ResNet-50"),
    _dimp("super_dimp", "super_dimp.pth.tar", "SuperDiMP"),
    _dimp("super_dimp_simple", "super_dimp_simple.pth.tar", "SuperDiMP with the hinge loss"),
    _dimp("atom", "atom_default.pth", "ATOM"),
    _siamrpnpp("siamrpnpp", "siamrpn_r50_l234_dwxcorr", "SiamRPN++ with ResNet-50"),
    _siamrpnpp("siamrpnpp-lt", "siamrpn_r50_l234_dwxcorr_lt", "SiamRPN++ with ResNet-50, long-term", reports_lost=True),
    _siamrpnpp("siamrpnpp-otb", "siamrpn_r50_l234_dwxcorr_otb", "SiamRPN++ with ResNet-50, tuned for OTB"),
    _siamrpnpp("siamrpnpp-mobilev2", "siamrpn_mobilev2_l234_dwxcorr", "SiamRPN++ with MobileNetV2"),
    _siamrpnpp("siamrpnpp-alex", "siamrpn_alex_dwxcorr", "SiamRPN++ with AlexNet"),
    _siamrpnpp("siamrpnpp-alex-otb", "siamrpn_alex_dwxcorr_otb", "SiamRPN++ with AlexNet, tuned for OTB"),
    TrackerEntry(
        name="nano",
        summary="NanoTrack v2, with the boxes of `cv2.TrackerNano`, and NanoTrack v3",
        load=_imported("nano:load"),
        roles=("backbone", "head"),
        file_suffix=".onnx",
        gives_score=True,
    ),
    TrackerEntry(
        name="vit",
        summary="VitTrack",
        load=_imported("vit:load"),
        roles=("vittrack",),
        file_suffix=".onnx",
        gives_score=True,
    ),
    TrackerEntry(
        name="vit-opencv",
        summary="VitTrack, with the boxes of `cv2.TrackerVit`",
        load=_imported("vit_opencv:load"),
        roles=("vittrack",),
        file_suffix=".onnx",
        gives_score=True,
        reports_lost=True,
    ),
    TrackerEntry(
        name="dasiamrpn",
        summary="DaSiamRPN, with the boxes of `cv2.TrackerDaSiamRPN`",
        load=_imported("dasiamrpn:load"),
        roles=("model", "kernel_cls1", "kernel_r1"),
        file_suffix=".onnx",
        gives_score=True,
    ),
    TrackerEntry(name="mil", summary="`cv2.TrackerMIL`", load=_imported("mil:load"), reports_lost=True),
    TrackerEntry(
        name="csrt",
        summary="CSRT of `opencv-contrib-python`",
        load=_imported("opencv_contrib:load_csrt"),
        accepts_feedback=False,
        reports_lost=True,
    ),
    TrackerEntry(
        name="kcf",
        summary="KCF of `opencv-contrib-python`",
        load=_imported("opencv_contrib:load_kcf"),
        accepts_feedback=False,
        reports_lost=True,
    ),
    TrackerEntry(
        name="replay",
        summary="published boxes, `<sequence>.txt` in `--results_dir`",
        load=refuse("--tracker replay stands for published results; only the evaluation can read them."),
        accepts_feedback=False,
        needs_frames=False,
        replays=True,
    ),
    TrackerEntry(
        name="oracle",
        summary="true center, size of the last box",
        load=_imported("oracle:load_center"),
        reports_lost=True,
        needs_frames=False,
        needs_truth=True,
    ),
    TrackerEntry(
        name="oracle-size",
        summary="true size, center of the last box",
        load=_imported("oracle:load_size"),
        reports_lost=True,
        needs_frames=False,
        needs_truth=True,
    ),
    TrackerEntry(
        name="self",
        summary="last box: the refiner takes its own output as input",
        load=_imported("self_refinement:load_once"),
        needs_frames=False,
        requires_refiner=True,
    ),
    TrackerEntry(
        name="self:2",
        summary="same as `self`, with two passes of the refiner a frame",
        load=_imported("self_refinement:load_twice"),
        requires_refiner=True,
    ),
    TrackerEntry(
        name="oracle:",
        argument="NAME",
        summary="tracker that accepts feedback, moved to the true center after every frame",
        load=refuse("--tracker oracle: must be followed by the name of a tracker, such as oracle:mil."),
        needs_truth=True,
        derive=_oracle_over,
    ),
    TrackerEntry(
        name="cmd:",
        argument="program arguments",
        summary="program that speaks TraX, in a process of its own",
        load=_imported("trax:load"),
        accepts_feedback=False,
        gives_score=True,
        reports_lost=True,
        opens_files=True,
        takes_limits=True,
        code_files=_imported("trax:command_files"),
    ),
    CUSTOM,
)
"""Entries in the order of the documentation."""
