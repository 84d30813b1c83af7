"""What a replica says about itself: versions, and each target in its framework's words."""

from __future__ import annotations

import platform
from typing import Any

from . import __version__, jsonable, wire
from .frameworks.interface import Framework, Target


def describe(
    targets: dict[str, Target], loaded: dict[str, Any], frameworks: list[Framework], notes: list[str]
) -> dict[str, Any]:
    """All of it is plain JSON, whatever a schema's defaults are."""
    described = {
        name: target.describe(loaded[name], notes)
        | {"framework": {"name": target.framework.name, "version": target.framework.version()}}
        | {"stored_as": target.stored_as}
        for name, target in targets.items()
    }
    told = {
        "protocol": wire.PROTOCOL,
        "runner": __version__,
        "python": platform.python_version(),
        "framework": "+".join(framework.name for framework in frameworks),
        "versions": {package: version for framework in frameworks for package, version in framework.versions().items()},
        "drain": all(framework.drains for framework in frameworks),
        "notes": list(dict.fromkeys(notes)),
        "graphs": described,
    }
    return jsonable.loads(jsonable.dumps(told))
