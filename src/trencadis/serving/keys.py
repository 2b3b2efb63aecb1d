"""API keys. Only their SHA-256 digests are held."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from trencadis.errors import ConfigError
from trencadis.serving.faults import ApiError

ENVIRONMENT = "TRENCADIS_API_KEYS"
_LINE = re.compile(r"([0-9a-fA-F]{64})(?:\s+\S.*)?")


class Keys:
    """Says who asks.

    Args:
        digests: SHA-256 in hexadecimal; without any, everybody may ask.
    """

    def __init__(self, digests: Iterable[str]) -> None:
        self._digests = sorted({digest.lower() for digest in digests})

    def __bool__(self) -> bool:
        return bool(self._digests)

    @classmethod
    def read(cls, path: str | None, environment: Mapping[str, str]) -> "Keys":
        """Return the keys of a file, and those of the environment variable, which are joined by commas.

        Raises:
            ConfigError: The file cannot be read, or a line of it is no digest.
        """
        given = [key.strip() for key in environment.get(ENVIRONMENT, "").split(",")]
        digests = [digest(key) for key in given if key]
        if path is not None:
            digests += _in_file(Path(path))
            if not digests:
                raise ConfigError(f"{path} has no keys", expected="one or more", remedy="add one, or leave it out")
        return cls(digests)

    def client(self, authorization: str | None, address: str) -> str:
        """Return the name under which a request takes turns: its key's digest, or an address where there are no keys.

        All digests are compared, each in constant time.

        Raises:
            ApiError: The key is absent or unknown.
        """
        if not self:
            return address
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            message = "No API key was given; send it as `Authorization: Bearer KEY`."
            raise ApiError(401, message, "invalid_api_key")
        own = digest(key.strip())
        if sum([hmac.compare_digest(own, known) for known in self._digests]) == 0:
            raise ApiError(401, "The API key is unknown; check it.", "invalid_api_key")
        return own


def digest(key: str) -> str:
    """Return the SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _in_file(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        remedy = "check the path"
        raise ConfigError(f"cannot read {path}", expected="a text file of digests", remedy=remedy) from error
    digests = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:  # it may be a key, so it is not shown
            expected = "a SHA-256 digest in hexadecimal, and a name"
            remedy = "write what `printf %s KEY | sha256sum` prints"
            raise ConfigError(f"line {number} of {path} is no digest", expected=expected, remedy=remedy)
        digests.append(found[1])
    return digests
