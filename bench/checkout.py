"""Where things lie in this checkout, for bench/run and bench/server."""

import os

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Failure(Exception):
    """A message for the user."""


def demo_model():
    with open(os.path.join(ROOT, "pins.env"), encoding="utf-8") as pins:
        name = dict(line.strip().split("=", 1) for line in pins if "=" in line and line[0] != "#")[
            "DEMO_FILE"
        ]
    return os.path.join(os.environ.get("HS_DEPS_DIR", os.path.join(ROOT, "deps")), "models", name)
