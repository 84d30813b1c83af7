"""What the base image has installed, as uv sees it.

An environment that sees the system's packages (PEP 405) does not make uv see them: it would install each again.
`note FOLDER` lays the descriptions of those packages, without their code, into the environment's folder, so that
uv keeps what will do and puts another version in its place otherwise, as pip does. `forget FOLDER` takes away what
is left of them: Python finds the packages where they are.
"""

import importlib.metadata
import pathlib
import re
import shutil
import sys

NOTED = "rapidclaw"
# PEP 440, "Appendix B", loosely: what uv refuses to read it shall not find.
VERSION = re.compile(r"[0-9]+(\.[0-9]+)*([._-]?(a|b|c|rc|alpha|beta|pre|post|rev|r|dev)[._-]?[0-9]*)*(\+[a-z0-9._-]+)?", re.I)
WHEEL = "Wheel-Version: 1.0\nGenerator: rapidclaw\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def name_of(text: str) -> str:
    return re.sub(r"[-_.]+", "_", text).lower()


def note(folder: pathlib.Path) -> None:
    seen = set()
    for package in importlib.metadata.distributions():
        try:
            name, version = package.metadata["Name"], package.version
            text = package.read_text("METADATA") or package.read_text("PKG-INFO")
        except Exception:  # one that is damaged is no reason to build nothing
            continue
        if not name or not version or not text or not VERSION.fullmatch(version) or name_of(name) in seen:
            continue
        seen.add(name_of(name))
        own = folder / f"{name_of(name)}-{version}.dist-info"
        if own.exists():
            continue
        own.mkdir(parents=True)
        files = {"METADATA": text, "WHEEL": WHEEL, "INSTALLER": NOTED + "\n"}
        files["RECORD"] = "".join(f"{own.name}/{file},,\n" for file in [*files, "RECORD"])
        for file, content in files.items():
            (own / file).write_text(content, encoding="utf-8")


def forget(folder: pathlib.Path) -> None:
    for own in folder.glob("*.dist-info"):
        installer = own / "INSTALLER"
        if installer.is_file() and installer.read_text().strip() == NOTED:
            shutil.rmtree(own)
    installed = {name_of(package.name): package for package in importlib.metadata.distributions(path=[str(folder)])}
    for package in importlib.metadata.distributions():
        newer = installed.get(name_of(package.metadata["Name"] or ""))
        if newer is not None and newer.version != package.version:
            print(f"rapidclaw: {newer.name} {package.version} of the base image is replaced by {newer.version}")


if __name__ == "__main__":
    sys.path[:] = [path for path in sys.path if path and pathlib.Path(path) != pathlib.Path(__file__).parent]
    {"note": note, "forget": forget}[sys.argv[1]](pathlib.Path(sys.argv[2]))
