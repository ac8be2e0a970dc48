"""Files from strangers: no code runs, memory stays bounded, and the answer is one sentence within seconds."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import cifar_files
import data_files
import numpy as np
import pytest
from harms import bounded
from scipy.io import savemat

from xpnet.data import load_data
from xpnet.errors import DataError


class Attack:
    """Runs a command when Python's own pickle reads it."""

    def __reduce__(self) -> Any:
        return os.system, ("touch hacked",)


linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")


def refused(path: Path, message: str, **settings: Any) -> None:
    with bounded(), pytest.raises(DataError, match=message) as caught:
        load_data(path, **settings)
    assert "\n" not in str(caught.value)
    assert not Path("hacked").exists()


@linux
class TestPickles:
    @pytest.mark.parametrize("where", ["data_batch_1", "batches.meta"])
    def test_foreign_globals_in_every_file(self, tmp_path: Path, where: str):
        content = pickle.dumps({"data": Attack(), "labels": [], "label_names": Attack()}, 2)
        folder = cifar_files.write_folder(tmp_path / "c", **{where: content})
        for path in (folder, data_files.write_archive(tmp_path / "a.tar.gz", folder, "c")):
            refused(path, rf"{where}: names the global (posix|nt).system")

    @pytest.mark.parametrize("where", ["train", "meta"])
    def test_foreign_globals_in_cifar100(self, tmp_path: Path, where: str):
        folder = data_files.write_cifar100(tmp_path / "c", "python")
        (folder / where).write_bytes(pickle.dumps({"data": Attack(), "fine_label_names": Attack()}, 2))
        refused(folder, rf"{where}: names the global (posix|nt).system")

    @pytest.mark.parametrize("suffix", [".bin", ".mat"])
    def test_pickles_under_the_names_of_other_layouts(self, tmp_path: Path, suffix: str):
        writer = data_files.write_binary if suffix == ".bin" else data_files.write_matlab
        folder = writer(tmp_path / "c")
        (folder / f"data_batch_1{suffix}").write_bytes(pickle.dumps(Attack(), 2))
        refused(folder, f"data_batch_1{suffix}: ")

    def test_objects_in_npz_and_npy(self, tmp_path: Path):
        np.savez(tmp_path / "m.npz", x=np.array([[Attack()]] * 5, object), y=np.arange(5) % 2)
        refused(tmp_path / "m.npz", "x holds Python objects, which could run code")
        np.save(tmp_path / "x.npy", np.array([[Attack()]] * 5, object))
        np.save(tmp_path / "y.npy", np.arange(5) % 2)
        refused(tmp_path / "x.npy", "x.npy holds Python objects, which could run code")


def zip_file(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)


def npy_header(shape: str, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (63 - (len(text) + 10) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@linux
class TestClaims:
    @pytest.mark.parametrize(
        "shape", ["(1000000000000, 3)", "(4, 10000000000000)", f"({2**62}, {2**62})", "(2, 3)", "(-1, -12)"]
    )
    def test_npy_headers_that_claim_terabytes(self, tmp_path: Path, shape: str):
        (tmp_path / "x.npy").write_bytes(npy_header(shape) + bytes(12))
        np.save(tmp_path / "y.npy", np.arange(4) % 2)
        refused(tmp_path / "x.npy", "x.npy has the shape .* bytes, but the file holds 12")
        with zip_file(tmp_path / "m.npz") as archive:
            archive.writestr("x.npy", npy_header(shape) + bytes(12))
        refused(tmp_path / "m.npz", "m.npz: x has the shape .* bytes, but the file holds 12")

    def test_a_header_as_long_as_memory(self, tmp_path: Path):
        with zip_file(tmp_path / "m.npz") as archive, archive.open("x.npy", "w") as x:
            x.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1))
            for _ in range(500):
                x.write(bytes(2**20))
        refused(tmp_path / "m.npz", "x is not an array .EOF: reading array header, expected 4294967295 bytes")

    def test_a_zip_bomb(self, tmp_path: Path):
        with zip_file(tmp_path / "m.npz") as archive:
            with archive.open("x.npy", "w") as x:
                x.write(npy_header("(600, 1048576)"))
                for _ in range(600):
                    x.write(bytes(2**20))
            y = io.BytesIO()
            np.save(y, np.arange(600) % 2)
            archive.writestr("y.npy", y.getvalue())
        refused(tmp_path / "m.npz", r"x: claims 629,145,600 bytes in memory, of which")

    def test_a_tar_bomb(self, tmp_path: Path):
        info = tarfile.TarInfo("c/anything")
        info.size = 600 * 2**20
        (tmp_path / "a.tar").write_bytes(info.tobuf())
        refused(tmp_path / "a.tar", "unpacks to more than 536,870,912 bytes")

    def test_a_tar_that_goes_on_after_its_last_member(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("xpnet.data.readers.archive._MOST_BYTES", 2**20)
        (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tarfile.TarInfo("c").tobuf() + bytes(2**21), 1))
        refused(tmp_path / "a.tar.gz", "unpacks to more than 1,048,576 bytes")

    def test_a_tar_of_a_million_members(self, tmp_path: Path):
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz", compresslevel=1) as tar:
            for i in range(3000):
                tar.addfile(tarfile.TarInfo(f"c/{i}"))
        refused(tmp_path / "a.tar.gz", "has more than 1,000 members")

    @pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, b"g"])
    def test_a_tar_with_a_header_as_long_as_memory(self, tmp_path: Path, kind: bytes):
        info = tarfile.TarInfo("long")
        info.type, info.size = kind, 480 * 2**20
        with (tmp_path / "a.tar").open("wb") as file:
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            file.truncate(490 * 2**20)
        refused(tmp_path / "a.tar", "has a header of 503,316,480 bytes")

    def test_images_of_too_many_pixels(self, tmp_path: Path):
        folder = data_files.write_images(tmp_path / "p")
        (folder / "red" / "huge.png").write_bytes(data_files.png(100_000, 100_000, data_files.packed_zeros(20)))
        (folder / "blue" / "large.png").write_bytes(data_files.png(9_000, 9_000, data_files.packed_zeros(20)))
        (folder / "blue" / "huge.bmp").write_bytes(
            b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 100_000, 100_000, 1, 24, 0, 0, 0, 0, 0, 0)
        )
        with bounded():
            data = load_data(folder)
        (note,) = data.notes
        assert "left out 3 files" in note
        assert "9,000 x 9,000 pixels" in note
        assert "red/huge.png (too many pixels)" in note

    def test_a_csv_file_with_a_million_columns(self, tmp_path: Path):
        line = ",".join(["1"] * 1_000_000) + "\n"
        (tmp_path / "p.csv").write_text(line * 20)
        refused(tmp_path / "p.csv", "has 1,000,000 columns; at most 100,000 are read", target="0")
        (tmp_path / "p.csv").write_bytes(b"a,label\n" + b"1" * (20 * 2**20))
        refused(tmp_path / "p.csv", "line 2: has more than 4,194,304 bytes; it is no table")

    def test_a_gzipped_csv_file_without_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        packer = zlib.compressobj(1, wbits=31)
        with (tmp_path / "p.csv.gz").open("wb") as file:
            file.write(packer.compress(b"a,b,label\n"))
            file.write(packer.compress(b"\n" * 2**20))
            file.write(packer.flush())
        refused(tmp_path / "p.csv.gz", "line 10002: has 10,001 empty lines before it; it is no table")
        monkeypatch.setattr("xpnet.data.readers.csv._LARGE", 2**20)
        (tmp_path / "p.csv.gz").write_bytes(gzip.compress((b"1," * 49_999 + b"1\n") * 20))
        refused(tmp_path / "p.csv.gz", "unpacks to more than 100 times its size; unpack it yourself", target="0")

    def test_parquet_that_claims_more_rows_than_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        column = pa.array(np.zeros(2_000_000))
        pq.write_table(pa.table({"label": column, "a": column}), tmp_path / "p.parquet")
        assert (tmp_path / "p.parquet").stat().st_size < 20_000
        del column
        monkeypatch.setattr("xpnet.utils.memory.free_host_memory", lambda: 3_000_000)
        refused(
            tmp_path / "p.parquet", "2,000,000 rows of 2 columns: claims 4,000,000 bytes in memory, of which 3,000,000"
        )


def mat(**values: Any) -> bytes:
    file = io.BytesIO()
    savemat(file, values)
    return file.getvalue()


@linux
class TestMatlab:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (mat(data={"a": 1}, labels=[[1]]), "data is a structure; only arrays of numbers and text are read"),
            (mat(data=np.array([[{"a": 1}]], object), labels=[[1]]), "is a structure"),
            (mat(data=np.array([[1, "x"]], object), labels=[[1]]), "data is text or a cell"),
            (mat(labels=[[1]]), "has no variable data; its variables are labels"),
            (mat(data=np.ones((2, 5)), labels=[[1, 2]]), r"data is an array \(2, 5\) of float64"),
            (mat(data=np.ones((2, 3072), np.uint8), labels=[[1]]), "has 2 images and 1 labels"),
            (mat(data=np.ones((2, 3072), np.uint8), labels=[[1.5], [2]]), "labels must be a column of whole numbers"),
            (mat(data=np.ones((2, 3072), complex), labels=[[1]]), "data is complex"),
            (b"\x89HDF\r\n\x1a\n" + bytes(300), "is a MATLAB file of version 7.3; save it with -v7"),
            (b"MATLAB 5.0 MAT-file" + bytes(300), "is not a MATLAB file of level 5"),
            (mat(data=np.ones((2, 3072), np.uint8), labels=[[1], [2]])[:-900], "claims .* bytes at byte"),
        ],
    )
    def test_what_is_not_plain_numbers_is_refused(self, tmp_path: Path, content: bytes, message: str):
        folder = data_files.write_matlab(tmp_path / "c")
        (folder / "data_batch_1.mat").write_bytes(content)
        refused(folder, f"data_batch_1.mat: .*{message}")

    @pytest.mark.parametrize(
        ("kind", "what"),
        [(3, "an object"), (16, "a function"), (17, "an opaque object"), (5, "a sparse matrix"), (99, "class 99")],
    )
    def test_objects_of_matlab_are_refused(self, tmp_path: Path, kind: int, what: str):
        folder = data_files.write_matlab(tmp_path / "c")
        path = folder / "data_batch_1.mat"
        content = bytearray(path.read_bytes())
        # The flags of the first array follow the file's header and two tags; their lowest byte is its class.
        assert content[128 + 16] == 9
        content[128 + 16] = kind
        path.write_bytes(content)
        refused(folder, f"data is {what}; only arrays of numbers and text are read")

    def test_a_compressed_bomb(self, tmp_path: Path):
        folder = data_files.write_matlab(tmp_path / "c")
        packer = zlib.compressobj(1)
        packed = packer.compress(struct.pack("<II", 14, 2**32 - 8) + mat(data=[[1]])[136:184])
        packed += b"".join(packer.compress(bytes(2**20)) for _ in range(200)) + packer.flush()
        header = mat(a=[[1]])[:128]
        (folder / "data_batch_1.mat").write_bytes(header + struct.pack("<II", 15, len(packed)) + packed)
        refused(folder, "unpacks to more than 167,772,160 bytes")

    def test_dimensions_that_are_not_there(self, tmp_path: Path):
        folder = data_files.write_matlab(tmp_path / "c")
        path = folder / "data_batch_1.mat"
        content = path.read_bytes().replace(struct.pack("<II", 20, 3072), struct.pack("<II", 2**31 - 1, 2**31 - 1), 1)
        path.write_bytes(content)
        refused(folder, "data has the shape .2147483647, 2147483647., but the file holds 61,440 bytes")


class TestPaths:
    def test_archives_are_read_without_writing_what_leads_out(self, tmp_path: Path):
        folder = cifar_files.write_folder(tmp_path / "in" / "c")
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
            for path in folder.iterdir():
                tar.add(path, f"../../../{tmp_path.name}/out/{path.name}")
        assert load_data(tmp_path / "a.tar.gz").features == 3072
        assert not (tmp_path / "out").exists()

    def test_links_are_not_followed(self, tmp_path: Path):
        folder = data_files.write_images(tmp_path / "p")
        (folder / "loop").symlink_to(folder)
        (folder / "red" / "device.png").symlink_to("/dev/zero")
        (folder / "red" / "outside.png").symlink_to(folder / "blue" / "0.png")
        (note,) = load_data(folder).notes
        assert "left out 2 files" in note
        assert "device.png (a link, or no file)" in note

    def test_a_device_is_no_file(self):
        with pytest.raises(DataError, match="data = /dev/zero: is neither a file nor a folder"):
            load_data("/dev/zero")

    def test_names_are_harmless_to_a_terminal(self, tmp_path: Path):
        data_files.write_images(tmp_path / "p")
        (tmp_path / "p" / "red").rename(tmp_path / "p" / "\x1b[31mred")
        assert load_data(tmp_path / "p").class_names[0] == "\\x1b[31mred"
        (tmp_path / "p.csv").write_text(
            "a,\x1b]0;x\x07,label\n" + "".join(f"1,{x},{x % 2}\n" for x in range(9)) + "1,x,1\n"
        )
        with pytest.raises(DataError) as caught:
            load_data(tmp_path / "p.csv")
        assert str(caught.value).isprintable()
