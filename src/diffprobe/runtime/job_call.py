"""How a rule hands files and options to its script, by name: `--in name=path ... --out name=path ... --with name=text`.

A shell's command is one argument of `bash -c`, of 128 KiB at most on Linux, which the inputs of a table of thousands of
results exceed. Above LONGEST all go as one word, compressed about twentyfold: `--packed WORD`.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from shlex import quote

LONGEST = 50_000  # characters; the JSON argument, the paths of the log and the like come on top
FLAGS = ("--in", "--out", "--with")  # of inputs, outputs, options
Named = Mapping[str, object]


def call_words(inputs: Named, outputs: Named, options: Named) -> str:
    """The words for a shell; values that are None or [] are left out."""
    words = [
        f"{flag} {text}"
        for flag, named in zip(FLAGS, (inputs, outputs, options), strict=True)
        if (text := pairs(named))
    ]
    line = " ".join(words)
    return line if len(line) <= LONGEST else f"--packed {packed(inputs, outputs, options)}"


def pairs(named: Named) -> str:
    """name=value ... for a shell."""
    return " ".join(quote(pair) for pair in listed(named))


def listed(named: Named) -> list[str]:
    return [f"{name}={value}" for name, value in named.items() if value not in (None, [])]


def packed(*named: Named) -> str:
    text = json.dumps([listed(each) for each in named])
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode()


def unpacked(word: str) -> list[list[str]]:
    """The pairs of inputs, outputs and options."""
    return json.loads(zlib.decompress(base64.urlsafe_b64decode(word)))
