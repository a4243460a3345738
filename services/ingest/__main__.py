"""Run as `python -m services.ingest --settings FILE`."""

import sys
from pathlib import Path
from typing import Final

from services.ingest.settings import load_settings
from services.runtime.clock import SystemClock
from services.runtime.errors import SettingsError
from services.runtime.service import WRONG_SETTINGS, ServiceContext, run_service

SHUTDOWN_S: Final = 20.0


def main(settings_file: Path | None) -> int:
    """Run ingest; return the status to exit with."""
    try:
        settings = load_settings(settings_file)
    except SettingsError as error:
        sys.stderr.write(f"ingest: {error}\n")
        return WRONG_SETTINGS
    from services.ingest import app
    from services.runtime.kafka import AioKafka

    clock = SystemClock()

    def kafka(part: str) -> AioKafka:
        return AioKafka(settings.kafka.bootstrap, clock=clock, client_id=f"{settings.name}-{part}")

    async def serve(context: ServiceContext) -> None:
        await app.run(settings, kafka, context)

    return run_service("ingest", serve, ops=settings.ops, clock=clock, shutdown_s=SHUTDOWN_S)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[2]) if sys.argv[1:2] == ["--settings"] else None))
