"""Remote files: an address with the SHA-256 of the content behind it, such as `s3://bucket/faces.zip#sha256=4f1c..`.

The hash is required. An address names a place, whose content may change; the hash names the content. So two projects
with the same config have the same data, whenever they were first run; a job's argument holds the hash and no address,
so that neither another bucket nor a later date makes anything anew; and nobody has to be asked whether a file that was
fetched once is still the right one.
"""

import re
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic_core import PydanticCustomError

# Snakemake's storage plugins, which are also extras of diffprobe, by the scheme of an address.
PLUGINS = {"s3": "s3", "gs": "gcs", "https": "http", "http": "http"}
REMOTE = re.compile(rf"({'|'.join(PLUGINS)})://[^#]*")
MARK = "#sha256="
CONTENT = re.compile(rf".+{MARK}[0-9a-f]{{64}}")
PLAIN_NAME = re.compile(r"[\w+-][\w.+-]*")


class Remote(NamedTuple):
    """A remote file."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """Its file name, which tells readers its format."""
        return PurePosixPath(unquote(urlsplit(self.url).path)).name

    @property
    def plugin(self) -> str:
        return PLUGINS[urlsplit(self.url).scheme]

    @property
    def shown(self) -> str:
        """Its address without what may be a secret: a password, or the signature of a signed address."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def content(self) -> str:
        """What stands in job arguments."""
        return content_name(self.name, self.sha256)


def content_name(name: str, sha256: str) -> str:
    return f"{name}{MARK}{sha256}"


def is_remote(path: str) -> bool:
    return REMOTE.match(path) is not None


def names_remote(path: str) -> bool:
    """Whether a path stands for a remote file, in a config or in a job's argument."""
    return is_remote(path) or CONTENT.fullmatch(path) is not None


def parse(path: str) -> Remote:
    """Raises PydanticCustomError for an address without a hash, or whose last part is no plain file name."""
    url, _, sha256 = path.partition(MARK)
    remote = Remote(url, sha256)
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        example = f"{remote.shown}{MARK}.."
        allowed = "an address with the SHA-256 of its content behind it: {example} (sha256sum FILE prints it)"
        raise PydanticCustomError("remote", allowed, {"example": example})
    if not PLAIN_NAME.fullmatch(remote.name) or "{" in url or "}" in url or not url.isprintable():
        raise PydanticCustomError("remote", "an address that ends in a plain file name, without braces")
    return remote


def checked(path: str) -> str:
    if is_remote(path):
        parse(path)
    return path


def local(path: str) -> str:
    if is_remote(path):
        raise PydanticCustomError("remote", "a path on this machine (only zips, weights and statistics may be remote)")
    return path


def argument(path: str) -> str:
    return parse(path).content if is_remote(path) else path
