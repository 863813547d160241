import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.errors import UserError
from tasks.artifact_store import MANIFEST, ArtifactStore, DamagedArtifactError


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "store")


def put(store, **files):
    folder = store.new_folder()
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return store.put(folder)


def test_equal_content_is_one_artifact(store):
    first, size = put(store, a=b"1", sub__b=b"22")
    second, _ = put(store, sub__b=b"22", a=b"1")
    assert first == second
    assert size == 3
    assert store.digests() == [first]
    assert not list((store.root / "tmp").iterdir())


@pytest.mark.parametrize("files", [{"a": b"2"}, {"b": b"1"}, {"a": b"1", "b": b""}])
def test_other_content_or_names_are_another_artifact(store, files):
    assert put(store, a=b"1")[0] != put(store, **files)[0]


def damage_flip(folder):
    data = bytearray((folder / "a").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "a").write_bytes(data)


def damage_flip_and_hide_the_time(folder):
    before = (folder / "a").stat()
    damage_flip(folder)
    os.utime(folder / "a", ns=(before.st_atime_ns, before.st_mtime_ns + 1))


DAMAGES = {
    "bit": damage_flip,
    "bit, time restored": damage_flip_and_hide_the_time,
    "truncated": lambda folder: (folder / "a").write_bytes(b""),
    "missing": lambda folder: (folder / "a").unlink(),
    "extra": lambda folder: (folder / "more").write_bytes(b""),
    "manifest torn": lambda folder: (folder / MANIFEST).write_text("{"),
    "manifest changed": lambda folder: (folder / MANIFEST).write_text('{"a": {"size": 0, "sha256": ""}}'),
    "manifest missing": lambda folder: (folder / MANIFEST).unlink(),
    "linked": lambda folder: (
        (folder / "a").rename(folder.parent / "x"),
        (folder / "a").symlink_to(folder.parent / "x"),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_replaced_by_the_next_put(store, damage):
    digest, _ = put(store, a=b"content", b=b"other")
    assert store.verify(digest) == store.folder(digest)
    DAMAGES[damage](store.folder(digest))
    with pytest.raises(DamagedArtifactError, match=digest[:12]):
        store.verify(digest)
    assert put(store, a=b"content", b=b"other")[0] == digest
    store.verify(digest)


def test_links_and_special_files_are_refused(store):
    folder = store.new_folder()
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="a link or a special file"):
        store.put(folder)


def test_a_writer_killed_before_the_rename_leaves_no_artifact(store):
    program = (
        "import os, pathlib, sys; from tasks.artifact_store import ArtifactStore\n"
        "store = ArtifactStore(pathlib.Path(sys.argv[1])); folder = store.new_folder()\n"
        "(folder / 'a').write_bytes(b'x' * 1000)\n"
        "pathlib.Path.rename = lambda *_: os.kill(os.getpid(), 9)\n"
        "store.put(folder)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(store.root)], check=False)
    assert done.returncode == -9
    assert store.digests() == []


@settings(max_examples=25, deadline=None)
@given(
    files=st.dictionaries(
        st.from_regex(r"[a-z]{1,6}(/[a-z]{1,4})?", fullmatch=True), st.binary(max_size=20), min_size=1, max_size=4
    )
)
def test_any_set_of_files_round_trips(tmp_path_factory, files):
    names = sorted(files)
    if any(other.startswith(f"{name}/") for name in names for other in names):
        return
    store = ArtifactStore(tmp_path_factory.mktemp("store"))
    digest, size = put(store, **{name.replace("/", "__"): content for name, content in files.items()})
    folder = store.verify(digest)
    assert {name: (folder / name).read_bytes() for name in files} == files
    assert size == sum(map(len, files.values()))
