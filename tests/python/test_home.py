"""What an image's steps put below their HOME is found below the replica's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src" / "runner" / "python" / "rapidclaw_runner"))

import home


def test_downloads_of_the_image_are_found_and_caches_can_be_written(tmp_path, monkeypatch):
    root, own, homes = tmp_path / "root", tmp_path / "home", tmp_path / "homes"
    own.mkdir()
    for name in (".cache/x/y", ".cache/ms-playwright/chromium-1/chrome-linux/chrome", "nltk_data/a/b/c/d.txt", ".bashrc", "file"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (own / "file").write_text("of the replica")
    homes.write_text(f"{root}\n{own}\nrelative\n{tmp_path}/none\n")
    for _ in range(2):
        home.find_downloads(str(own), str(homes))
    assert (own / ".cache/x/y").read_text() == ".cache/x/y"
    assert (own / ".cache/ms-playwright/chromium-1/chrome-linux/chrome").resolve().is_relative_to(root)
    assert (own / "nltk_data/a/b/c/d.txt").exists()
    assert (own / "file").read_text() == "of the replica"
    assert not (own / ".bashrc").exists()
    (own / ".cache/x/z").write_text("new")
    (own / ".cache/own").mkdir()
    assert not (root / ".cache/x/z").exists()
    home.find_downloads(str(own), str(tmp_path / "nothing"))

    monkeypatch.setattr(home, "MOST_LINKS", 2)
    other = tmp_path / "other"
    other.mkdir()
    home.find_downloads(str(other), str(homes))
    assert sum(len(folders) + len(files) for _, folders, files in os.walk(other)) == 2


def test_a_variable_that_names_a_file_of_another_machine_is_lost(tmp_path):
    assert home.is_lost("SSL_CERT_FILE", "/Users/ann/ca.pem") and home.is_lost("PYTHONHOME", "/Users/ann/python")
    for name, value in (
        ("SSL_CERT_FILE", str(tmp_path)),
        ("SSL_CERT_FILE", "/tmp/made-later.pem"),
        ("REQUESTS_CA_BUNDLE", "ca.pem"),
        ("MY_FILE", "/Users/ann/ca.pem"),
    ):
        assert not home.is_lost(name, value)
