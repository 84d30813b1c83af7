"""What the server and the build tell this replica: `replica.json` and `project.json`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

from .home import is_lost

RUN_DIR_VAR = "RAPIDCLAW_RUN"
PROJECT_VAR = "RAPIDCLAW_PROJECT"
LIFELINE_VAR = "RAPIDCLAW_LIFELINE"
ORPHAN_VAR = "RAPIDCLAW_ORPHAN_SECONDS"
GRACE_VAR = "RAPIDCLAW_GRACE_SECONDS"

CHECKPOINTER_OWN = "own"


@dataclass(frozen=True)
class Settings:
    """Everything the runner is told, read once before any of the project's code runs."""

    socket_path: str
    replica: str
    agent: str
    version: int
    secret: str = field(repr=False)
    env: dict[str, str] = field(repr=False)
    own_checkpointer: bool = False
    serde: dict[str, Any] | None = None
    concurrency: int = 20
    log_level: str = "info"
    plain: frozenset[str] = frozenset()
    """Variables whose values are no secrets."""
    orphan_seconds: float = 8.0
    grace_seconds: float = 8.0
    lifeline: int | None = None
    graphs: dict[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    workdir: str | None = None


def run_dir() -> str:
    return os.environ.get(RUN_DIR_VAR) or "/run/rapidclaw"


def read_json(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    if not isinstance(document, dict):
        raise ValueError(f"{path}: a JSON object is expected")
    return document


def environment(env: Any) -> dict[str, str]:
    """The variables of `replica.json` that an environment can hold, and that lead somewhere here."""
    pairs = ((str(name), str(value)) for name, value in (env or {}).items())
    held = {name: value for name, value in pairs if name and "=" not in name and "\0" not in name + value}
    return {name: value for name, value in held.items() if not is_lost(name, value)}


def read() -> Settings:
    """Raises OSError, ValueError or KeyError naming what is missing."""
    base = run_dir()
    replica = read_json(os.path.join(base, "s", "replica.json"))
    project = read_json(os.environ.get(PROJECT_VAR) or "/opt/rapidclaw/project.json")
    lifeline = os.environ.pop(LIFELINE_VAR, "")
    if lifeline:
        os.set_inheritable(int(lifeline), False)
    if not replica.get("secret"):
        raise ValueError("replica.json holds no secret")
    return Settings(
        socket_path=os.path.join(base, "r", "runner.sock"),
        replica=str(replica.get("replica", "")),
        agent=str(replica.get("agent", "")),
        version=int(replica.get("version") or 0),
        secret=replica["secret"],
        env=environment(replica.get("env")),
        own_checkpointer=replica.get("checkpointer") == CHECKPOINTER_OWN,
        serde=replica.get("serde") or None,
        concurrency=max(1, int(replica.get("concurrency") or 20)),
        log_level=str(replica.get("log_level") or "info"),
        plain=frozenset(map(str, replica.get("plain") or ())),
        orphan_seconds=float(os.environ.get(ORPHAN_VAR) or 8),
        grace_seconds=float(os.environ.get(GRACE_VAR) or 8),
        lifeline=int(lifeline) if lifeline else None,
        graphs=dict(project["graphs"]),
        paths=tuple(project.get("paths") or ()),
        workdir=project.get("workdir"),
    )
