"""Where things lie in this checkout, for the benchmarks."""

import os

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Failure(Exception):
    """A message for the user."""


def pinned_model(key):
    with open(os.path.join(ROOT, "pins.env"), encoding="utf-8") as pins:
        name = dict(line.strip().split("=", 1) for line in pins if "=" in line and line[0] != "#")[
            key
        ]
    return os.path.join(os.environ.get("HS_DEPS_DIR", os.path.join(ROOT, "deps")), "models", name)


def demo_model():
    return pinned_model("DEMO_FILE")


def gemma_model():
    return pinned_model("GEMMA_FILE")
