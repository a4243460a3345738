import os
from pathlib import Path

import pytest

from services.onebox import lock
from services.runtime.errors import SettingsError


def test_a_second_up_on_one_directory_is_refused_with_the_process_of_the_first(tmp_path: Path) -> None:
    with (
        lock.take(tmp_path / "up.lock"),
        pytest.raises(SettingsError, match=rf"process id {os.getpid()}; cure: .*--data"),
    ):
        lock.take(tmp_path / "up.lock")


def test_a_lock_whose_holder_is_gone_is_free_whatever_its_file_says(tmp_path: Path) -> None:
    (tmp_path / "up.lock").write_text("4711\n")
    assert lock.holder(tmp_path / "up.lock") is None
    with lock.take(tmp_path / "up.lock"):
        assert lock.holder(tmp_path / "up.lock") == os.getpid()
