"""Log lines: one line of JSON each, escaped, so that nothing a stranger sent reaches a terminal raw."""

import json
import logging
import sys
import time
from typing import Any


class JsonFormatter(logging.Formatter):
    """`{"at", "level", "logger", "message", …}`; what a caller passes as `extra={"fields": {…}}` stands beside."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)


def configure_logging(level: str) -> None:
    """Send all logs to standard error. httpx's request lines are left out: they repeat what we log ourselves."""
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[output], force=True)
    for noisy in ("httpx", "httpcore", "websockets", "botocore", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def fields(**values: object) -> dict[str, dict[str, object]]:
    """`log.info("task accepted", extra=fields(task=…))`"""
    return {"fields": values}
