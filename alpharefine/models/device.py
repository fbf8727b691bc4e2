"""Choice of the torch device."""

from __future__ import annotations

import torch


def select_device(name: str) -> torch.device:
    """Return a torch device that can be used here.

    Args:
        name: Torch device such as ``cpu`` or ``cuda:1``; ``auto`` selects the GPU if there is one.

    Raises:
        ValueError: If there is no such device.

    >>> select_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        # The index, because the current device may change. Without a context of CUDA it is 0, and none is made here.
        has_context = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        return torch.device("cuda", torch.cuda.current_device() if has_context else 0)
    try:
        probe = torch.zeros(1, device=name)
        probe.cpu()
    except Exception as error:  # torch raises errors of half a dozen types
        num_gpus = torch.cuda.device_count()
        gpus = f"{num_gpus} GPU{'s' if num_gpus > 1 else ''} of CUDA" if num_gpus else "no GPU of CUDA"
        raise ValueError(
            f"`device` must be auto, cpu or a device of torch that this machine has, such as cuda:0, got {name!r}; "
            f"torch finds {gpus} here, and says: {str(error).splitlines()[0]}"
        ) from error
    return probe.device  # with the index of the GPU
