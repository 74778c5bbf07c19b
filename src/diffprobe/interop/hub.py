"""Autoencoders of the Hugging Face hub: from its cache, or downloaded into it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffprobe.config.published import CONFIG, PLACES, WEIGHTS, read_config
from diffprobe.runtime.errors import UserError, one_line

SECONDS = 10  # that the hub may take to answer at all


def cached_or_downloaded(name: str, key: str, say: Callable[[str], None]) -> Path:
    """The folder with the config.json and the weights of the autoencoder that the hub calls `name`.

    What the cache holds is taken as it is, so that it works offline and stays what it was. Raises UserError, a line
    that names the files to fetch by hand and the `key` of the config that then names their folder.
    """
    folder = cached(name)
    if folder:
        return folder
    try:
        return downloaded(name, say)
    except Exception as error:  # no network, no such model, no access: each has its own kind
        raise UserError(
            f"{key}: {name}: no such folder, and it cannot be had from the hub ({one_line(error).rstrip('. ')}); "
            f"download {CONFIG} and {WEIGHTS[0]} from https://huggingface.co/{name} into a folder and set {key}: FOLDER"
        ) from None


def cached(name: str) -> Path | None:
    """The folder in the hub's cache, where config and weights are there."""
    from huggingface_hub import try_to_load_from_cache

    for place in PLACES:
        config = try_to_load_from_cache(name, path_of(place, CONFIG))
        for weights in WEIGHTS:
            found = try_to_load_from_cache(name, path_of(place, weights))
            if isinstance(config, str) and isinstance(found, str) and Path(config).parent == Path(found).parent:
                return Path(config).parent
    return None


def downloaded(name: str, say: Callable[[str], None]) -> Path:
    """The folder in the hub's cache, its files downloaded; pickles only for want of safetensors.

    Raises whatever the hub's client raises, FileNotFoundError or ValueError where it has no such files.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    for place in PLACES:
        # The client itself would try an unreachable hub again for half a minute.
        url = hf_hub_url(name, path_of(place, CONFIG))
        if attempted(lambda url=url: get_hf_file_metadata(url, timeout=SECONDS)) is None:
            continue
        say(f"downloads {name}")
        folder = Path(file_of(name, path_of(place, CONFIG)) or "").parent
        try:
            read_config(folder)
        except ValueError as error:
            raise ValueError(f"it is not {error}") from None
        for weights in WEIGHTS:
            if file_of(name, path_of(place, weights)):
                return folder
        raise FileNotFoundError(f"it has no {' or '.join(WEIGHTS)}")
    raise FileNotFoundError(f"it has no {CONFIG}, nor one in vae/")


def path_of(place: str, file: str) -> str:
    return f"{place}/{file}" if place else file


def file_of(name: str, file: str) -> str | None:
    """A file of a model, in the cache; None where the model has none of this name."""
    from huggingface_hub import hf_hub_download

    return attempted(lambda: hf_hub_download(name, file))


def attempted(ask: Callable[[], Any]) -> Any:
    """What the hub answers; None where it says that there is no such file."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return ask()
    except LocalEntryNotFoundError:  # no answer, and nothing in the cache
        raise
    except EntryNotFoundError:
        return None
