"""Run as `python -m services.archive --settings FILE`."""

import sys
from pathlib import Path

from services.archive.settings import load_settings
from services.runtime.clock import SystemClock
from services.runtime.errors import SettingsError
from services.runtime.service import WRONG_SETTINGS, ServiceContext, run_service


def main(settings_file: Path | None) -> int:
    """Run archive; return the status to exit with."""
    try:
        settings = load_settings(settings_file)
    except SettingsError as error:
        sys.stderr.write(f"archive: {error}\n")
        return WRONG_SETTINGS
    from services.archive import app
    from services.runtime.kafka import AioKafka

    clock = SystemClock()

    async def serve(context: ServiceContext) -> None:
        kafka = AioKafka(settings.kafka.bootstrap, clock=clock, client_id=settings.name)
        video = AioKafka(settings.kafka.bootstrap, clock=clock, client_id=f"{settings.name}-video")
        await app.run(settings, kafka, context, video_kafka=video)

    return run_service("archive", serve, ops=settings.ops, clock=clock)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[2]) if sys.argv[1:2] == ["--settings"] else None))
