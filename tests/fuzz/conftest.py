"""Makes the inputs of the fuzz tests importable, and keeps Hypothesis from writing into the working tree."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def plain_hypothesis(temporary_folder: Path) -> Iterator[None]:
    """Store the files of Hypothesis with the temporary ones, and use the same examples in all installations.

    By default it collects constants from all modules outside of `site-packages`. Parsing TensorFlow takes minutes.
    """
    set_hypothesis_home_dir(temporary_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hypothesis.internal.conjecture.providers.is_local_module_file", lambda path: False)
        yield
