"""What is wrong with the settings, in one line for a log: the variables' names and why, never what they hold."""

import re

from pydantic import ValidationError

PREFIX = "SPLITUP_"

# Our own validators quote what they refuse, and a URL may carry a key to an account with a provider.
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")


def told(error: ValidationError) -> str:
    """`SPLITUP_PORT: Input should be …; SPLITUP_TOKEN_FILE: Field required`."""
    lines: list[str] = []
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        message = one["msg"].removeprefix("Value error, ")
        if one["type"] == "value_error":
            message = _QUOTED.sub("the value", message)
        name = f"{PREFIX}{one['loc'][0]}".upper() if one["loc"] else "the settings"
        lines.append(f"{name}: {message}")
    return "; ".join(lines)
