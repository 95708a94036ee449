"""API keys: a file of their digests. A key is shown once, when it is made, and kept nowhere.

A line a key: name, day it was made, SHA-256. A key is 256 random bits, so that a plain digest of it
tells nothing. The file is read again when it has changed: revoking needs no restart.
"""

import hashlib
import hmac
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from slowfast_mllm.video.names import short_name

_NAME = re.compile(r"[\w.-]{1,64}")
_PREFIX = "sk-sf-"


@dataclass(frozen=True)
class Key:
    """A key as it is kept.

    Attributes:
        made: day, as 2026-01-31.
        digest: SHA-256 in hexadecimal digits.
    """

    name: str
    made: str
    digest: str


class Keys:
    """The file of keys, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: object = None
        self._keys: list[Key] = []

    def all(self) -> list[Key]:
        """All keys, in the order in which they were made.

        Raises:
            ValueError: the file is none of keys.
        """
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return []
        stamp = stat.st_mtime_ns, stat.st_size, stat.st_ino
        if stamp != self._stamp:
            lines = self.path.read_text(encoding="utf-8").splitlines()
            try:
                self._keys = [Key(*line.split("\t")) for line in lines if line]
            except TypeError as error:
                raise ValueError(f"{short_name(str(self.path))}: not a file of keys") from error
            self._stamp = stamp
        return self._keys

    def add(self, name: str) -> str:
        """Make a key, and return it.

        Raises:
            ValueError: the name is taken or no name.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{short_name(name)}: name a key with letters, digits, - _ and .")
        keys = self.all()
        if any(key.name == name for key in keys):
            raise ValueError(f"{name}: there is a key of this name; revoke it first.")
        secret = _PREFIX + secrets.token_urlsafe(32)
        self._write([*keys, Key(name, time.strftime("%Y-%m-%d"), _digest(secret))])
        return secret

    def revoke(self, name: str) -> None:
        """Forget a key.

        Raises:
            ValueError: there is none of this name.
        """
        keys = self.all()
        left = [key for key in keys if key.name != name]
        if len(left) == len(keys):
            raise ValueError(f"{short_name(name)}: no key of this name.")
        self._write(left)

    def name_of(self, secret: str) -> str | None:
        """Whose key it is; None: nobody's. Takes as long whichever, and whether, it is one."""
        given = _digest(secret)
        found = None
        for key in self.all():
            if hmac.compare_digest(key.digest, given):
                found = key.name
        return found

    def _write(self, keys: list[Key]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.partial")
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.writelines(f"{key.name}\t{key.made}\t{key.digest}\n" for key in keys)
        partial.replace(self.path)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
