"""What of the image and of the project's environment a replica finds in other places than the machine that made them.

Standard library only: the supervisor imports it.
"""

from __future__ import annotations

import os

HOMES = "/opt/rapidclaw/homes"
"""Lists the homes that the image's own steps had: browsers, models and corpora are downloaded there."""
NOT_LINKED = frozenset((".bashrc", ".profile", ".bash_history", ".wget-hsts", ".ssh", ".netrc", ".gnupg", ".docker"))
REAL_FOLDERS = 3
"""So many folders below a home are folders of the replica's own, which it may write to; what lies deeper is linked."""
MOST_LINKS = 2000
PLACES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PYTHONHOME")
"""Variables that end clients, or Python, where they name a file of another machine."""


def is_lost(name: str, value: str) -> bool:
    """Whether a variable names a file that is not here; what is written at run time is below /tmp."""
    return name in PLACES and os.path.isabs(value) and not value.startswith("/tmp/") and not os.path.exists(value)


def find_downloads(home: str, list_of_homes: str = HOMES) -> None:
    """Links what the image's steps put below their HOME to where the replica looks for it, below its own."""
    try:
        with open(list_of_homes, encoding="utf-8") as file:
            homes = [line.rstrip("\n") for line in file]
    except (OSError, ValueError):
        return  # an image of before
    left = MOST_LINKS
    for one in homes:
        if os.path.isabs(one) and os.path.realpath(one) != os.path.realpath(home):
            left = link_below(one, home, 0, left)


def link_below(source: str, target: str, depth: int, left: int) -> int:
    try:
        entries = sorted(os.scandir(source), key=lambda entry: entry.name)
    except OSError:
        return left
    for entry in entries:
        if left <= 0:
            break
        if depth == 0 and entry.name in NOT_LINKED:
            continue
        place = os.path.join(target, entry.name)
        try:
            if depth < REAL_FOLDERS and entry.is_dir(follow_symlinks=False):
                if not os.path.lexists(place):
                    os.mkdir(place)
                    left -= 1
                left = link_below(entry.path, place, depth + 1, left)
            elif not os.path.lexists(place):
                os.symlink(entry.path, place)
                left -= 1
        except OSError:
            continue
    return left
