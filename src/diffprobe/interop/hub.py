"""Autoencoders of the Hugging Face hub: from its cache, or downloaded into it."""

from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from diffprobe.config.published import CONFIG, HALF, PLACES, WEIGHTS, read_config
from diffprobe.runtime.errors import UserError, one_line

SECONDS = 10  # that the hub may take to answer at all
Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def cached_or_downloaded(name: str, key: str, say: Callable[[str], None]) -> Path:
    """The folder with the config.json and the weights of the autoencoder that the hub calls `name`.

    A cached copy is taken as it is, which works offline and never changes. Raises UserError, a line that names the
    files to fetch by hand and the `key` of the config that then names their folder.
    """
    folder = cached(name)
    if folder:
        return folder
    try:
        return downloaded(name, say)
    except Exception as error:  # no network, no such model, no access: each has its own exception
        reason = one_line(error).rstrip(". ")
        raise UserError(
            f"{key}: {name}: no such folder, and it cannot be downloaded from the hub ({reason}); download {CONFIG} "
            f"and {WEIGHTS[0]} from https://huggingface.co/{name} into a folder and set {key}: FOLDER"
        ) from None


def cached(name: str) -> Path | None:
    """The folder in the hub's cache that has both config and weights."""
    from huggingface_hub import try_to_load_from_cache

    for place in PLACES:
        config = try_to_load_from_cache(name, path_of(place, CONFIG))
        for weights in (*WEIGHTS, HALF):
            file = try_to_load_from_cache(name, path_of(place, weights))
            # Of one revision, or the weights could be another model's.
            if isinstance(config, str) and isinstance(file, str) and Path(config).parent == Path(file).parent:
                return Path(config).parent
    return None


def downloaded(name: str, say: Callable[[str], None]) -> Path:
    """The folder in the hub's cache, its files downloaded; pickles only for want of safetensors.

    Raises whatever the hub's client raises, FileNotFoundError or ValueError where it has no such files.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    for place in PLACES:
        # Arguments first with a short timeout: the client's download retries an unreachable hub for half a minute.
        url = hf_hub_url(name, path_of(place, CONFIG))
        if unless_missing(get_hf_file_metadata, url, timeout=SECONDS) is None:
            continue
        say(f"downloads {name}")
        folder = Path(hf_hub_download(name, path_of(place, CONFIG))).parent
        try:
            read_config(folder)  # before hundreds of MB of weights
        except ValueError as error:
            raise ValueError(f"it is not {error}") from None
        for weights in (*WEIGHTS, HALF):
            if unless_missing(hf_hub_download, name, path_of(place, weights)):
                return folder
        raise FileNotFoundError(f"it has no {' or '.join(WEIGHTS)}")
    raise FileNotFoundError(f"it has no {CONFIG}, nor one in vae/")


def path_of(place: str, file: str) -> str:
    return f"{place}/{file}" if place else file


def unless_missing(
    ask: Callable[Arguments, Answer], *arguments: Arguments.args, **named: Arguments.kwargs
) -> Answer | None:
    """The hub's answer; None where it says that there is no such file."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return ask(*arguments, **named)
    except LocalEntryNotFoundError:  # no answer, and nothing in the cache
        raise
    except EntryNotFoundError:
        return None
