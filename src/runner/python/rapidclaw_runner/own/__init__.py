"""The runner's own copies of what it needs beside LangGraph: `from rapidclaw_runner.own import orjson`.

They lie in a folder that is on no `sys.path` (`embed.rs` says which, PROTOCOL.md where), and are imported as
modules of this package. So a project that pins another version of one gets that version, one that has
none finds none, and neither `sys.modules` nor the metadata of what is installed knows ours by its name.

Where the folder is not there (tests, a runner outside an image), the environment's own serve.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys

EXTENSIONS = ("orjson", "ormsgpack")
"""Packages that are one compiled module. A file of such is loaded once a process: one that the project has as
well is shared instead."""

_site = os.environ.get("RAPIDCLAW_SITE") or "/opt/rapidclaw/site"
_found = importlib.machinery.PathFinder.find_spec

__path__: list[str] = [_site]
if _found("websockets", [_site]) is None:
    __path__ += [entry for entry in sys.path if _found("websockets", [entry]) is not None][:1]
for _name in EXTENSIONS:
    if _found(_name, [_site]) is None:
        sys.modules[f"{__name__}.{_name}"] = globals()[_name] = importlib.import_module(_name)
