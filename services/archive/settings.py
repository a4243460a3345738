"""Settings of archive: one file, the environment over it."""

import os
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct, field

from services.runtime.errors import SettingsError
from services.runtime.settings import IdentitySettings, KafkaSettings, ListenSettings, OpsSettings, load

GIB: Final = 1024**3
Bytes = Annotated[int, Meta(ge=1)]


class ArchiveSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Defaults are those of one box.

    `pool` names the registry topic whose cameras this archive knows. `data_dir` holds the objects, the
    catalog and, on the same file system, scratch. `scratch_bytes` must take every open camera's segment:
    16 MiB each, twice that for smart codecs. Below `disk_reserve_bytes` of free disk `video` is not read
    on and stays in Kafka; None: half of max(2 GiB, 5 %), since ingest stops at the whole, and what it had
    acknowledged must still fit. `clip_bytes` is what the clips in `tmp` may have together, until each is sent.
    """

    name: str = "archive-0"
    kafka: KafkaSettings = KafkaSettings()
    ops: OpsSettings = OpsSettings(port=9104)
    listen: ListenSettings = ListenSettings(port=8083)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    origins: tuple[str, ...] = ()
    pool: str = "main"
    data_dir: Path = Path(".data/archive")
    bucket: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{1,62}$")] = "live-standard"
    scratch_bytes: Bytes = 8 * GIB
    open_files_max: Annotated[int, Meta(ge=8)] = 512
    disk_reserve_bytes: Annotated[int, Meta(ge=0)] | None = None
    store_workers: Annotated[int, Meta(ge=1, le=64)] = 4
    guaranteed_days: Annotated[int, Meta(ge=0)] = 7
    clips_at_once: Annotated[int, Meta(ge=1)] = 2
    clip_bytes: Bytes = 4 * GIB

    @property
    def catalog_file(self) -> Path:
        return self.data_dir / "catalog.sqlite"

    @property
    def scratch_dir(self) -> Path:
        return self.data_dir / "scratch"

    @property
    def store_dir(self) -> Path:
        return self.data_dir / "store" / self.bucket

    @property
    def clip_dir(self) -> Path:
        return self.data_dir / "tmp"


def load_settings(file: Path | None) -> ArchiveSettings:
    """Read the settings; raises SettingsError with file, line, key and cure."""
    return load(ArchiveSettings, file=file, environ=os.environ)


def disk_reserve_bytes(settings: ArchiveSettings) -> int:
    """Return the free bytes below which `video` is held.

    Raises:
        SettingsError: the data directory cannot be made.
    """
    if settings.disk_reserve_bytes is not None:
        return settings.disk_reserve_bytes
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        disk = os.statvfs(settings.data_dir)
    except OSError as error:
        raise SettingsError(f"data_dir cannot be used: {error.strerror}") from error
    return max(2 * GIB, disk.f_blocks * disk.f_frsize // 20) // 2
