"""What a manifest names, found and imported: `FILE.py:ATTR` or `pkg.module:ATTR`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any


class LoadError(Exception):
    """A graph could not be loaded; `cause` says why."""

    def __init__(self, graph: str, cause: BaseException) -> None:
        super().__init__(f"graph {graph}: {cause}")
        self.graph = graph
        self.cause = cause


def load_target(spec: str, paths: Sequence[str], name: str) -> Any:
    location, separator, attribute = spec.rpartition(":")
    if not separator or not location or not attribute:
        raise ValueError(f"{spec} is not PATH:ATTRIBUTE")
    is_file = location.endswith(".py") or "/" in location
    module = _import_file(location, paths, name) if is_file else importlib.import_module(location)
    try:
        value: Any = module
        for part in attribute.split("."):
            value = getattr(value, part)
        return value
    except AttributeError:
        raise AttributeError(f"{location} has no attribute {attribute}") from None


def _import_file(path: str, paths: Sequence[str], name: str) -> ModuleType:
    """Imports a file under the name that the project's own imports know it by, where it has one:
    states hold classes by their module's name, and a module must not be loaded twice."""
    path = os.path.realpath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no such file: {path}")
    roots = sorted((os.path.realpath(root) for root in paths), key=len, reverse=True)
    for root in roots:
        relative = os.path.relpath(path, root)
        dotted = relative.removesuffix(".py").replace(os.sep, ".")
        if relative.startswith("..") or dotted.count(".") != relative.removesuffix(".py").count(os.sep):
            continue
        dotted = dotted.removesuffix(".__init__")
        try:
            spec = importlib.util.find_spec(dotted)
        except (ImportError, AttributeError, ValueError):
            spec = None
        if spec is not None and spec.origin and os.path.realpath(spec.origin) == path:
            return importlib.import_module(dotted)
    spec = importlib.util.spec_from_file_location(f"rapidclaw_graph_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
