"""The listener process: `python -m listener`."""

import gc
import sys

import uvloop
from pydantic import ValidationError

from listener.daemon import run
from listener.settings import ListenerSettings
from shared.errors import ChainError, ConfigurationError, JournalError, KeyFileError, leaves
from shared.logs import configure_logging
from shared.settings_errors import told


def main() -> None:
    """Exits 0 after SIGTERM or SIGINT, 1 with one line of reason where it cannot start or go on."""
    reason: str | None = None
    try:
        settings = ListenerSettings()
        configure_logging(settings.log_level)
        # What was imported stays for good; going through it all took the collector a tenth of a second each time.
        gc.freeze()
        uvloop.run(run(settings))
    except* ValidationError as errors:
        wrong = leaves(errors)[0]
        assert isinstance(wrong, ValidationError)
        reason = f"the settings are wrong: {told(wrong)}"
    except* (ConfigurationError, ChainError, KeyFileError, JournalError) as errors:
        reason = str(leaves(errors)[0])
    sys.exit(None if reason is None else f"the listener cannot run: {reason}")


if __name__ == "__main__":
    main()
