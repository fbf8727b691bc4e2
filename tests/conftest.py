from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Golden vectors and real data, which lie beside the project and are no part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the folder ../shared with golden vectors and real data is absent")
    return folder
