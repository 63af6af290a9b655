"""Print what pyproject.toml asks for: the common dependencies and those of one extra, a line each.

Lets an image install them in a layer of its own, which a change of the code leaves as it is.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
print("\n".join([*project["dependencies"], *project["optional-dependencies"][sys.argv[1]]]))
