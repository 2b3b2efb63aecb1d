"""Files and directories that are written whole or not at all."""

import errno
import hashlib
import io
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from trencadis.errors import StorageError

if TYPE_CHECKING:
    from PIL import Image


def sync_directory(path: Path) -> None:
    """Force a directory's entries to the disk, so that a rename survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Force every file and folder below `path`, and `path` itself, to the disk."""
    for folder, _, names in os.walk(path):
        for name in names:
            with open(Path(folder) / name, "rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(folder))


@contextmanager
def user_storage(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise _storage_error(path, error) from error
    except Exception as error:
        # safetensors and tokenizers are written in Rust and raise their own kinds for a failed write.
        number = next((n for n in _REMEDIES if os.strerror(n) in str(error)), None)
        if number is None:
            raise
        raise _storage_error(path, OSError(number, os.strerror(number))) from error


MAX_NAME_BYTES = 255
SHEET_MARK = "trencadis sheet"
"""What a sheet or its page begins with, so that it may be replaced: in the first chunk of a PNG, in a page's head."""
_LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]+\.(partial|old)")

_REMEDIES = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some of your quota and run the same command again",
    errno.EFBIG: "raise the limit on a file's size, or choose a file system without one",
    errno.EIO: "check the disk, or choose another",
    errno.EROFS: "choose a place that is not read-only",
    errno.EACCES: "choose a place that you may write to",
    errno.ENOTDIR: "choose a path whose parents are directories",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def _storage_error(path: Path, error: OSError) -> StorageError:
    reason = (error.strerror or str(error)).lower()
    remedy = _REMEDIES.get(error.errno or 0, "choose another place")
    return StorageError(f"cannot write {path}: {reason}", expected="a writable place with room", remedy=remedy)


def _beside(path: Path, kind: str) -> Path:
    """Return a hidden sibling that no other process uses: process ids repeat among containers."""
    ending = f".{secrets.token_hex(4)}.{kind}"
    # Of `old` the whole name is needed: `sweep` gives it back.
    name = (
        path.name
        if kind == "old"
        else os.fsencode(path.name)[: MAX_NAME_BYTES - 1 - len(ending)].decode(errors="ignore")
    )
    return path.with_name(f".{name}{ending}")


def user_path(text: str) -> str:
    """Return a path as a shell hands it on: without quotes around it, and with the home folder in place of `~`."""
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'" and not os.path.lexists(text):
        text = text[1:-1]
    return os.path.expanduser(text)  # noqa: PTH111  # Path.expanduser fails where there is no such user


def require_writable(path: Path) -> None:
    """Refuse a place where a file or a directory cannot be written; nothing there changes.

    A file is made and removed in the folder that is there, as permissions alone do not say it: a file system can be
    read-only, and an administrator is bound by no permission.

    Raises:
        StorageError: It cannot be written.
    """
    with user_storage(path):
        if _is_device(path):
            return
        target = path.resolve()
        folder = target if path.is_dir() else next(parent for parent in target.parents if os.path.lexists(parent))
        probe = _beside(folder / "probe", "partial")
        with open(probe, "xb"):
            pass
        probe.unlink()


def _is_device(path: Path) -> bool:
    """Return whether a path is a device or a pipe; raises `OSError` where it cannot be anything."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # some methods of Path take each refusal for an absent file
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def write_new(path: Path, content: bytes) -> bool:
    """Write a file as `write_whole` does, unless there is one already: then nothing changes, and False is returned.

    Of several processes that write the same name at the same time, one gets True.

    Raises:
        StorageError: The place cannot be written.
    """
    temporary = _beside(path, "partial")
    with user_storage(path):
        try:
            _write_synced(temporary, content)
            _take_name(temporary, path)
            sync_directory(path.parent)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
    return True


def _write_synced(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _take_name(temporary: Path, path: Path) -> None:
    """Give a file its name; raises `FileExistsError` where there is one of that name."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links. Its name is taken by an empty file first.
        open(path, "xb").close()
        try:
            temporary.replace(path)
        except OSError:
            path.unlink()
            raise


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader sees the old content or the new, and nothing between.

    A link is followed. A device or a pipe is written into: a file in its place would break the system.

    Raises:
        StorageError: The place cannot be written; what was there before is untouched.
    """
    raw = content.encode() if isinstance(content, str) else content
    with user_storage(path):
        if _is_device(path):
            with open(path, "wb") as file:
                file.write(raw)
            return
        target = path.resolve()
        temporary = _beside(target, "partial")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_synced(temporary, raw)
            temporary.replace(target)
            sync_directory(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield a hidden sibling to fill; on success it becomes `path`, on failure it is removed.

    A directory already at `path` is replaced only once the new one is complete.

    Raises:
        StorageError: The place cannot be written; what was there before is untouched.
    """
    temporary = _beside(path, "partial")
    with user_storage(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            sync_tree(temporary)
            _swap(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    """Put `new` in the place of `path`; rename alone cannot replace a directory that is not empty."""
    if path.exists():
        if not path.is_dir():
            raise FileExistsError(errno.EEXIST, "a file is in its place")
        old = _beside(path, "old")
        path.rename(old)
        try:
            new.rename(path)
        except OSError:
            old.rename(path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        new.rename(path)
    sync_directory(path.parent)


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def png_bytes(picture: "Image.Image", text: Mapping[str, str] | None = None) -> bytes:
    """Return a picture as a PNG with text chunks."""
    from PIL.PngImagePlugin import PngInfo

    chunks, buffer = PngInfo(), io.BytesIO()
    for key, value in (text or {}).items():
        chunks.add_itxt(key, value)
    picture.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def write_picture(path: Path, picture: "Image.Image") -> None:
    """Write a PNG, as `write_whole` does."""
    write_whole(path, png_bytes(picture))


def write_sheet(path: Path, sheet: "Image.Image") -> None:
    """Write a PNG that `is_sheet` knows again, as `write_whole` does."""
    write_whole(path, png_bytes(sheet, {"Software": SHEET_MARK}))


def is_sheet(path: Path) -> bool:
    """Return whether a file is a sheet or its page; devices and pipes hold nothing that could be lost."""
    if not path.is_file():
        return not path.is_dir()
    with open(path, "rb") as file:
        return SHEET_MARK.encode() in file.read(200)


def sweep(directory: Path) -> None:
    """Remove what killed processes left half-written in a directory that only the caller writes to now.

    What cannot be removed stays until the next time.
    """
    for path in sorted(directory.iterdir()):
        if (match := _LEFTOVER.fullmatch(path.name)) is None:
            continue
        with suppress(OSError):
            if match[2] == "old" and not (directory / match[1]).exists():
                # Killed between the two renames of a replacement: this is the only copy.
                path.rename(directory / match[1])
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
