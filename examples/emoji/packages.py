"""The npm packages of the emoji: download, check and read them as streams.

`npm pack` downloads a package without installing it or running its code. Each package is pinned by npm's integrity
hash, so a tarball is either the tested one or an error. A cached tarball with the right hash needs no network. Members
are read in memory and never written to the paths in the tarball.
"""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


class BuildError(Exception):
    """An error that the user can fix; its text is one line."""


@dataclass(frozen=True)
class Package:
    """A pinned npm package."""

    name: str
    version: str
    integrity: str
    licence: str

    @property
    def spec(self) -> str:
        """The name that `npm pack` takes."""
        return f"{self.name}@{self.version}"

    @property
    def tarball(self) -> str:
        """The file name that `npm pack` writes."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


LABELS = Package(
    "emojibase-data",
    "17.0.0",
    "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    "MIT",
)
STYLES = {
    "3d": Package(
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        "MIT",
    ),
    "flat": Package(
        "@lobehub/fluent-emoji-flat",
        "1.1.0",
        "sha512-lPYCg8+N56MIj+iOgeBeH6AF0tneXxJCvgi41rOTjAWpA5rU2WUcmU1fiIXouEe8GrSTarWCYLY2ML+rdLRHsg==",
        "MIT",
    ),
    # Vectors, so they are sharp at any size: the bitmaps of `emoji-datasource-google` are 64 px in a tarball of 74 MB
    # (this one has 3 MB), and the font needs a shaper and a system package.
    "noto": Package(
        "@iconify-json/noto",
        "1.2.9",
        "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        "Apache-2.0",
    ),
    "twemoji": Package(
        "@discordapp/twemoji",
        "16.0.1",
        "sha512-figLiBWzjS5cyrAjLaGjM8AAaowO3qvK8rg5bA2dElB4qsaPMvBVlFDMO2d3x+nC1igt7kgWH4dvNmvvUHUF8w==",
        "CC-BY-4.0",
    ),
}
NAMED_STYLES = {
    # Iconify's packages, whose icons have names: `icons.py` finds their codepoints.
    "emojione": Package(
        "@iconify-json/emojione",
        "1.2.3",
        "sha512-T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
        "CC-BY-4.0",
    ),
    "fxemoji": Package(
        "@iconify-json/fxemoji",
        "1.2.2",
        "sha512-UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
        "Apache-2.0",
    ),
    "noto-v1": Package(
        "@iconify-json/noto-v1",
        "1.2.5",
        "sha512-/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
        "Apache-2.0",
    ),
    "streamline": Package(
        "@iconify-json/streamline-emojis",
        "1.2.4",
        "sha512-iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A==",
        "CC-BY-4.0",
    ),
}


def fetch(package: Package, cache: Path) -> Path:
    """Return a package's tarball, from the cache or by download.

    Raises:
        BuildError: npm is missing, the download fails, or its hash differs from the pinned one.
    """
    path = cache / package.tarball
    if path.is_file() and integrity(path) == package.integrity:
        return path
    npm = shutil.which("npm")
    if npm is None:
        raise BuildError(f"npm is not installed, and {package.spec} is not in {cache}: install Node.js, or use --cache")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetching-") as folder:
        command = [npm, "pack", "--loglevel", "error", "--ignore-scripts", "--pack-destination", folder, package.spec]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        fetched = Path(folder, package.tarball)
        if done.returncode or not fetched.is_file():
            lines = [line for line in done.stderr.splitlines() if line.startswith("npm error")] or [
                "npm gave no reason"
            ]
            raise BuildError(f"npm could not fetch {package.spec}: {lines[0].removeprefix('npm error ')}")
        found = integrity(fetched)
        if found != package.integrity:
            raise BuildError(f"{package.spec} has integrity {found}, expected {package.integrity}: fetch it again")
        return fetched.replace(path)


def integrity(path: Path) -> str:
    """The hash of a file in npm's format: "sha512-" and base64."""
    with path.open("rb") as file:
        return "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()


def members(tarball: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Stream the name and content of every regular file whose whole path matches a regular expression."""
    with tarfile.open(tarball, "r|gz") as archive:
        for member in archive:
            if member.isfile() and re.fullmatch(pattern, member.name):
                content = archive.extractfile(member)
                assert content is not None  # isfile() holds
                yield member.name, content.read()


def member(tarball: Path, path: str) -> bytes:
    """The content of one member.

    Raises:
        BuildError: The tarball has no such member.
    """
    for _, content in members(tarball, re.escape(path)):
        return content
    raise BuildError(f"{tarball.name} has no member {path}")


def all_drawings(cache: Path, done: Callable[[], None]) -> dict[str, dict[str, bytes]]:
    """Fetch the packages of all styles and return every drawing by style and key.

    Fluent has no national flags: both of its packages contain Noto's, which Noto's own package leaves out. They are
    moved to Noto here; otherwise "3D style" and "flat style" would mean something else for flags.
    """
    styles = {}
    for style, package in STYLES.items():
        styles[style] = drawings(style, fetch(package, cache))
        done()
    flags = {key: content for key, content in styles["flat"].items() if is_state_flag(key)}
    for style in ("3d", "flat"):
        styles[style] = {key: content for key, content in styles[style].items() if not is_state_flag(key)}
    return styles | {"noto": flags | styles["noto"]}


def is_state_flag(key: str) -> bool:
    """Whether a key is a flag of a country or of a part of one: two letters, or a sequence of tags."""
    return re.fullmatch(r"1f1[ef][0-9a-f]-1f1[ef][0-9a-f]|1f3f4-e0067-.+", key) is not None


def drawings(style: str, tarball: Path) -> dict[str, bytes]:
    """Every drawing of a style by its key: SVG text, or WebP for the 3D style."""
    if style == "noto":
        return _noto(tarball)
    folder = "package/dist/svg" if style == "twemoji" else "package/assets"
    extension = "webp" if style == "3d" else "svg"
    found = members(tarball, rf"{folder}/[0-9a-f_-]+\.{extension}")
    return {key_of(Path(name).stem): content for name, content in found}


def _noto(tarball: Path) -> dict[str, bytes]:
    icons = icons_of(tarball)
    return {key_of(code): icons[name] for code, name in json.loads(member(tarball, "package/chars.json")).items()}


def icons_of(tarball: Path) -> dict[str, bytes]:
    """Every icon of one of Iconify's packages by its name, as SVG text."""
    content = json.loads(member(tarball, "package/icons.json"))
    icons = {}
    for name, icon in content["icons"].items():
        left, top, width, height = (
            icon.get(key, content.get(key, default))
            for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        )
        head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        icons[name] = f'{head} viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'.encode()
    return icons


def key_of(code: str) -> str:
    """Normalize a codepoint sequence: lower case, hyphens, no variation selectors, no leading zeros.

    The packages differ: "0023-FE0F-20E3", "23-20e3"; subdivision flags with underscores and without their end tag.
    """
    parts = [part.lstrip("0") for part in code.lower().replace("_", "-").split("-") if part != "fe0f"]
    if parts[0] == "1f3f4" and len(parts) > 1 and parts[1] == "e0067" and parts[-1] != "e007f":
        parts.append("e007f")
    return "-".join(parts)
