from pathlib import Path

import pytest

from .golden import Networks


@pytest.fixture(scope="package")
def networks(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Networks:
    return Networks(golden, tmp_path_factory.mktemp("networks"))
