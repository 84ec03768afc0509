"""Fetching public sets: from a real HTTP server that cuts, lies and redirects; archives that bite; all or nothing."""

from __future__ import annotations

import csv
import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile
from dataclasses import replace

import pytest

from compress.cli.commands import app
from compress.data.download import check_url, download_file
from compress.data.fetch import PublicFile, PublicSet, fetch_set, find_set, load_registry
from compress.data.public_layout import LAYOUTS
from compress.data.unpack import unpack_archive
from edgeai.console import run_app
from edgeai.errors import DataError, DataMissingError, EdgeError, UsageError


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `cut` bytes into each answer, the connection breaks, `cuts` times."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.cut, self.cuts = 0, 0
        self.etag = '"one"'
        self.ranges = []
        self.redirects = {}
        self.length = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, name = self.server, self.path.lstrip("/")
        if name in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[name])
            self.end_headers()
            return
        if name not in server.files:
            self.send_error(404)
            return
        data, begin = server.files[name], 0
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        if asked and self.headers.get("If-Range") == server.etag:
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
            if begin >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.end_headers()
                return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", server.etag)
        if server.length != "none":
            self.send_header("Content-Length", str(server.length or len(data) - begin))
        self.end_headers()
        body = data[begin:]
        if server.cuts and server.cut:
            server.cuts -= 1
            body = body[: server.cut]
        self.wfile.write(body)


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def digest(data):
    return hashlib.sha256(data).hexdigest()


def make_zip(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


SOUND = {"set-1/recordings/3_ann_0.wav": b"a" * 5000, "set-1/recordings/4_bob_1.wav": b"b" * 5000}


def make_set(server, data, *, known=True, size=True, layout="fsdd", name="digits"):
    server.files["digits.zip"] = data
    file = PublicFile(
        f"{server.url}/digits.zip", len(data) if size else 0, digest(data) if known else "", "a test", "zip"
    )
    return PublicSet(name, "two digits", "CC0", "nobody", "https://example.org", layout, (file,))


def fetch(one, into, **more):
    return fetch_set(one, into, wait=lambda s: None, **more)


def test_a_set_is_fetched_once_with_lists_and_licence(server, tmp_path):
    one = make_set(server, make_zip(SOUND))
    made = fetch(one, tmp_path)
    assert (made.fresh, made.files, made.folder) == (True, 2, tmp_path / "digits")
    rows = list(csv.DictReader((made.folder / "all.csv").open()))
    assert rows == [
        {"file": "set-1/recordings/3_ann_0.wav", "digit": "3", "speaker": "ann"},
        {"file": "set-1/recordings/4_bob_1.wav", "digit": "4", "speaker": "bob"},
    ]
    assert json.loads((made.folder / "fetched.json").read_text())["licence"] == "CC0"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["digits"]  # nothing left over
    server.files.clear()
    assert not fetch(one, tmp_path).fresh


def test_a_cut_connection_goes_on_where_it_broke(server, tmp_path):
    data = bytes(range(256)) * 4000
    server.files["big.bin"] = data
    server.cut, server.cuts = 300_000, 3
    seen = download_file(f"{server.url}/big.bin", tmp_path / "big.bin", wait=lambda s: None)
    assert seen == digest(data)
    assert (tmp_path / "big.bin").read_bytes() == data
    assert [asked for asked in server.ranges if asked] and server.ranges[0] is None
    assert [p.name for p in tmp_path.iterdir()] == ["big.bin"]


def test_a_later_call_goes_on_too_unless_the_file_changed(server, tmp_path):
    data = b"x" * 500_000
    server.files["big.bin"] = data
    server.cut, server.cuts = 100_000, 1
    waits = []

    def stop(seconds):
        waits.append(seconds)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_file(f"{server.url}/big.bin", tmp_path / "big.bin", wait=stop)
    assert not (tmp_path / "big.bin").exists()
    assert (tmp_path / "big.bin.part").stat().st_size == 100_000
    server.files["big.bin"], server.etag = b"y" * 500_000, '"two"'
    assert download_file(f"{server.url}/big.bin", tmp_path / "big.bin") == digest(b"y" * 500_000)


def test_a_part_that_is_whole_is_not_fetched_again(server, tmp_path):
    data = b"x" * 1000
    server.files["big.bin"] = data
    (tmp_path / "big.bin.part").write_bytes(data)
    (tmp_path / "big.bin.part.json").write_text(
        json.dumps({"url": f"{server.url}/big.bin", "validator": server.etag})
    )
    assert download_file(f"{server.url}/big.bin", tmp_path / "big.bin") == digest(data)
    assert server.ranges == ["bytes=1000-"]


def test_a_server_that_never_finishes_is_given_up(server, tmp_path):
    server.files["big.bin"], server.length = b"", 1000
    with pytest.raises(
        DataMissingError, match=r"cannot be fetched: the connection was cut; check the network"
    ):
        download_file(f"{server.url}/big.bin", tmp_path / "big.bin", wait=lambda s: None)


def test_an_absent_file_and_an_absent_server_are_told(server, tmp_path):
    with pytest.raises(DataMissingError, match="HTTP 404"):
        download_file(f"{server.url}/none.bin", tmp_path / "none.bin")
    server.server_close()
    with pytest.raises(DataMissingError, match="cannot be fetched"):
        download_file("http://127.0.0.1:9/none.bin", tmp_path / "none.bin", wait=lambda s: None)


def test_a_file_larger_than_expected_is_refused(server, tmp_path):
    server.files["big.bin"] = b"x" * 2000
    with pytest.raises(DataError, match="2,000 bytes, at most 1,000"):
        download_file(f"{server.url}/big.bin", tmp_path / "big.bin", size_bytes=1000)
    server.length = "none"
    with pytest.raises(DataError, match="goes on after 1,000 bytes"):
        download_file(f"{server.url}/big.bin", tmp_path / "big.bin", size_bytes=1000)
    server.files["big.bin"] = b"x" * 500
    with pytest.raises(DataError, match="has 500 bytes, 1,000 are expected"):
        download_file(f"{server.url}/big.bin", tmp_path / "big.bin", size_bytes=1000)
    assert not (tmp_path / "big.bin").exists()


@pytest.mark.parametrize("url", ["http://example.org/a.zip", "ftp://example.org/a.zip", "a.zip"])
def test_only_https_is_fetched(url):
    with pytest.raises(UsageError, match="only https"):
        check_url(url)


@pytest.mark.parametrize("where", ["http://example.org/x", "file:///etc/hostname"])
def test_redirects_lead_nowhere_unsafe(server, tmp_path, where):
    server.redirects["a.bin"] = where
    with pytest.raises(EdgeError):
        download_file(f"{server.url}/a.bin", tmp_path / "a.bin", wait=lambda s: None)
    assert not (tmp_path / "a.bin").exists()


def test_a_wrong_hash_leaves_nothing_that_looks_like_a_set(server, tmp_path):
    one = make_set(server, make_zip(SOUND))
    server.files["digits.zip"] = make_zip({**SOUND, "set-1/recordings/5_eve_0.wav": b"e"})
    one = replace(one, files=(replace(one.files[0], bytes=0),))
    with pytest.raises(DataError, match=r"has SHA-256 .* is expected \(a test\)"):
        fetch(one, tmp_path)
    assert not (tmp_path / "digits").exists()
    assert not list((tmp_path / ".digits.download").glob("*.zip"))


def test_a_hash_that_nobody_knows_must_be_accepted(server, tmp_path):
    data = make_zip(SOUND)
    one = make_set(server, data, known=False, size=False)
    with pytest.raises(DataError, match=f"--accept-sha256 {digest(data)}"):
        fetch(one, tmp_path)
    assert not (tmp_path / "digits").exists()
    asked = len(server.ranges)
    assert fetch(one, tmp_path, accept=[digest(data).upper()]).hashes == {"digits.zip": digest(data)}
    assert len(server.ranges) == asked  # the download was kept


def test_a_mirror_folder_serves_archives_and_unpacked_sets(server, tmp_path):
    data = make_zip(SOUND)
    one = make_set(server, data)
    server.files.clear()
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "digits.zip").write_bytes(data)
    assert fetch(one, tmp_path / "a", source=str(mirror)).files == 2
    assert fetch(one, tmp_path / "b", source=mirror.as_uri()).files == 2
    (mirror / "digits.zip").write_bytes(data[:-1] + b"!")
    with pytest.raises(DataError, match="is expected"):
        fetch(one, tmp_path / "c", source=str(mirror))
    assert (mirror / "digits.zip").exists()  # somebody else's file stays
    unpacked = tmp_path / "sets" / "digits"
    unpacked.mkdir(parents=True)
    (unpacked / "all.csv").write_text("file,label\n")
    (unpacked / "secret").symlink_to("/etc/hostname")
    made = fetch(one, tmp_path / "d", source=str(unpacked.parent))
    assert sorted(p.name for p in made.folder.iterdir()) == ["all.csv", "fetched.json"]
    with pytest.raises(DataMissingError, match="no folder"):
        fetch(one, tmp_path / "e", source=str(tmp_path / "nowhere"))


def test_somebody_elses_folder_is_left_alone(server, tmp_path):
    one = make_set(server, make_zip(SOUND))
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        fetch(one, tmp_path)
    assert server.ranges == []


def tar_of(*infos, content=b""):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for info in infos:
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def tar_info(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def linked_zip():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("a")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/hostname")
    return out.getvalue()


BITING = {
    "zip slip": ("zip", make_zip({"../evil": b"x"}), "leads outside"),
    "zip slip of Windows": ("zip", make_zip({"a\\..\\..\\evil": b"x"}), "leads outside"),
    "absolute": ("zip", make_zip({"/etc/evil": b"x"}), "leads outside"),
    "drive": ("zip", make_zip({"C:/evil": b"x"}), "leads outside"),
    "zip link": ("zip", linked_zip(), "link or device"),
    "tar slip": ("tar", tar_of(tar_info("a/../../evil")), "leads outside"),
    "tar link": ("tar", tar_of(tar_info("a", tarfile.SYMTYPE, "/etc")), "link or device"),
    "tar hard link": ("tar", tar_of(tar_info("a", tarfile.LNKTYPE, "/etc/hostname")), "link or device"),
    "tar device": ("tar", tar_of(tar_info("a", tarfile.CHRTYPE)), "link or device"),
    "twice": ("tar", tar_of(tar_info("a"), tar_info("a")), "twice"),
    "file and folder": ("tar", tar_of(tar_info("a"), tar_info("a/b")), "twice"),
    "too many": ("zip", make_zip({str(i): b"" for i in range(50)}), "more than 20 files"),
    "bomb": ("zip", make_zip({"a": b"0" * 3_000_000}), "unpacks to more than"),
    "no zip": ("zip", b"no archive at all", "no zip archive"),
    "no tar": ("tar", b"no archive at all", "no tar archive"),
    "cut zip": ("zip", make_zip(SOUND)[:-30], "no zip archive"),
    "cut tar": ("tar", tar_of(tar_info("a"), content=bytes(i * 7 % 251 for i in range(90_000)))[:-3000], "no tar"),
    "empty": ("zip", make_zip({}), "is empty"),
}  # fmt: skip


@pytest.mark.parametrize("kind, data, told", BITING.values(), ids=BITING)
def test_an_archive_that_bites_is_refused(tmp_path, kind, data, told):
    (tmp_path / "a.bin").write_bytes(data)
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    with pytest.raises(DataError, match=told):
        unpack_archive(tmp_path / "a.bin", inside, kind, max_files=20, max_bytes=2_000_000)
    assert not list(tmp_path.rglob("evil"))
    assert not any(p.is_symlink() for p in tmp_path.rglob("*"))


def test_a_bad_archive_makes_no_set(server, tmp_path):
    one = make_set(server, make_zip({"good": b"x", "../evil": b"x"}))
    with pytest.raises(DataError, match="leads outside"):
        fetch(one, tmp_path / "into")
    assert not (tmp_path / "into" / "digits").exists()
    assert not list(tmp_path.rglob("evil"))


def test_the_registry_is_whole_and_safe():
    registry = load_registry()
    assert {"speech_commands", "fsdd", "deeppcb", "coco_val2017"} <= set(registry)
    for one in registry.values():
        assert one.licence and one.attribution and one.homepage.startswith("https://")
        assert one.layout in LAYOUTS or not one.layout
        for file in one.files:
            assert check_url(file.url).startswith("https://")
            assert bool(file.sha256) == bool(file.hash_source)
    with pytest.raises(UsageError, match="is 'fsdd' meant"):
        find_set("fsd", registry)


@pytest.mark.parametrize(
    "row, told",
    [
        ({"sha256": "", "verified": True}, "verified must be"),
        ({"sha256": "ab", "verified": True}, "no SHA-256"),
        ({"sha256": "", "verified": False, "unpack": "rar"}, "unpack must be"),
    ],
)
def test_a_wrong_registry_is_told(tmp_path, row, told):
    file = {"url": "https://example.org/a.zip", "bytes": 1, "unpack": "zip", **row}
    lines = [f"{key} = {json.dumps(value)}" for key, value in file.items()]
    head = [f'{key} = "x"' for key in ("name", "what", "licence", "attribution", "homepage", "layout")]
    path = tmp_path / "sets.toml"
    path.write_text("\n".join(["[[sets]]", *head, "[[sets.files]]", *lines]))
    with pytest.raises(DataError, match=told):
        load_registry(path)


def test_speech_commands_gets_the_official_splits(tmp_path):
    for name in ("yes/a1_nohash_0.wav", "yes/b2_nohash_0.wav", "no/a1_nohash_1.wav", "_silence_/9.wav",
                 "_unknown_/bed_c3_nohash_0.wav", "_background_noise_/tap.wav"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "testing_list.txt").write_text("yes/b2_nohash_0.wav\n")
    (tmp_path / "validation_list.txt").write_text("no/a1_nohash_1.wav\n")
    LAYOUTS["speech_commands"](tmp_path)
    rows = {(r["file"], r["label"], r["speaker"]) for r in csv.DictReader((tmp_path / "train.csv").open())}
    assert rows == {
        ("yes/a1_nohash_0.wav", "yes", "a1"),
        ("_silence_/9.wav", "silence", "none"),
        ("_unknown_/bed_c3_nohash_0.wav", "unknown", "c3"),
    }
    assert "b2" in (tmp_path / "test.csv").read_text()


def test_deeppcb_becomes_coco(tmp_path):
    root = tmp_path / "DeepPCB-master" / "PCBData"
    board = root / "group1" / "1"
    labels = root / "group1" / "1_not"
    board.mkdir(parents=True)
    labels.mkdir()
    for number in ("10", "11"):
        (board / f"{number}_test.jpg").write_bytes(b"")
        (labels / f"{number}.txt").write_text("10 20 30 50 3\n")
    (root / "trainval.txt").write_text("group1/1/10.jpg group1/1_not/10.txt\n")
    (root / "test.txt").write_text("group1/1/11.jpg group1/1_not/11.txt\n")
    LAYOUTS["deeppcb"](tmp_path)
    made = json.loads((tmp_path / "instances_train.json").read_text())
    assert made["images"][0]["file_name"] == "10_test.jpg" and made["images"][0]["group"] == "group1"
    assert made["annotations"][0]["bbox"] == [10, 20, 20, 30]
    assert made["annotations"][0]["category_id"] == 3
    (root / "test.txt").write_text("../../../etc/1.jpg x\n")
    with pytest.raises(DataError, match="not in it"):
        LAYOUTS["deeppcb"](tmp_path)


def run(capsys, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["edgeai-compress", *map(str, arguments)])
    code = run_app(app, program="edgeai-compress")
    return code, *capsys.readouterr()


def test_the_command_lists_and_fetches(capsys, monkeypatch, tmp_path):
    code, out, _ = run(capsys, monkeypatch, "data", "fetch", "--list")
    assert code == 0 and "speech_commands" in out and "not known" in out
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = run(capsys, monkeypatch, "data", "fetch", "--list", "--json")
    assert json.loads(out)["sets"][0]["licence"] == "CC BY 4.0"
    (tmp_path / "mirror" / "fsdd").mkdir(parents=True)
    (tmp_path / "mirror" / "fsdd" / "train.csv").write_text("file,digit\n")
    into = ("--into", tmp_path / "data")
    code, out, _ = run(
        capsys, monkeypatch, "data", "fetch", "fsdd", *into, "--from", tmp_path / "mirror", "--json"
    )
    row = json.loads(out)
    assert code == 0 and row["fetched"] and (tmp_path / "data" / "fsdd" / "train.csv").is_file()
    code, out, _ = run(capsys, monkeypatch, "data", "fetch", "fsdd", *into)
    assert code == 0 and "is there already" in out
    code, out, err = run(capsys, monkeypatch, "data", "fetch", "nothing")
    assert code == 2 and "no public set" in err and "Traceback" not in err
    assert run(capsys, monkeypatch, "data", "fetch")[0] == 2
