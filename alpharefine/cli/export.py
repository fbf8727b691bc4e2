"""Subcommand ``export``: writes the network of any checkpoint as ONNX files, programs of `torch.export`, or weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from alpharefine.cli.command import UserErrorParser
from alpharefine.errors import UserError

_SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}


def make_parser() -> UserErrorParser:
    """Build the parser of the command."""
    parser = UserErrorParser(
        prog="alpharefine export",
        description="Write the network of a checkpoint. onnx and torch_export write two files, the search network and "
        "the template encoder <name>_template, and compare them with PyTorch before they get their names; safetensors "
        "writes the weights with their configuration.",
    )
    parser.add_argument(
        "--ckpt",
        required=True,
        help="name of shipped weights, checkpoint of the training command or of the authors' code, .safetensors file, "
        "or state dict",
    )
    parser.add_argument("--format", required=True, choices=_SUFFIXES, help="format of the files")
    parser.add_argument(
        "--output", required=True, type=Path, help="path of the new file: .onnx, .pt2 or .safetensors by the format"
    )
    parser.add_argument(
        "--precision",
        choices=("32", "16", "8"),
        help="bits of the layers of onnx and torch_export; 8 in onnx only, for CPUs (default: 32)",
    )
    parser.add_argument("--batch_size", type=int, help="fixed batch size of onnx and torch_export (default: free)")
    parser.add_argument("--heads", help="heads to export: corner, mask or corner,mask (default: those of the network)")
    parser.add_argument(
        "--neck", help="neck in place of the recorded one; pixel and pixel_gate_first have the same parameters"
    )
    parser.add_argument(
        "--corner_head", help="corner head in place of the recorded one; towers and towers_256 have the same parameters"
    )
    parser.add_argument("--geometry", help="geometry in place of the recorded one: exact, original or original_window")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Export a checkpoint and print what was written.

    Args:
        args: Arguments; those of the process by default.

    Raises:
        UserError: If an option is invalid, the checkpoint cannot be read or expressed in the format, or a file exists.
            Nothing is written then.
    """
    options = make_parser().parse_args(args)
    suffix, output = _SUFFIXES[options.format], options.output
    if output.suffix != suffix:
        raise UserError(f"`--output` of `--format {options.format}` must end in {suffix}, got {output}; rename it.")
    for name in ("precision", "batch_size"):
        if options.format == "safetensors" and getattr(options, name) is not None:
            raise UserError(f"`--{name}` applies to onnx and torch_export; leave it out with `--format safetensors`.")
    if options.batch_size is not None and options.batch_size < 1:
        raise UserError(f"`--batch_size` must be at least 1, got {options.batch_size}.")
    # Imported here, so that `--help` does not wait for torch.
    from alpharefine.checkpoints.loading import load_checkpoint
    from alpharefine.export import files
    from alpharefine.inference.exported import ExportPrecision, template_path

    files.require_free(output)
    loaded = load_checkpoint(options.ckpt, options.geometry, options.neck, options.corner_head)
    network = loaded.network
    if options.heads is not None:
        network = files.with_heads(network, options.heads.split(","))
    lines = [f"{options.ckpt}: {loaded.description}", *([loaded.doubts] if loaded.doubts else [])]
    if options.format == "safetensors":
        files.save_weights(network, output)
        lines.append(f"{output}: {network.config}")
    else:
        precision: ExportPrecision = options.precision or "32"
        difference = files.save_programs(network, output, options.format, precision, options.batch_size)
        lines.append(f"{output}, {template_path(output)}: {network.config}")
        lines.append(f"difference from PyTorch: {difference}")
    sys.stdout.write("\n".join([*lines, ""]))
