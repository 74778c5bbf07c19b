"""A model's folder on the Hugging Face hub."""

from pathlib import Path

from diffprobe.runtime.errors import UserError, one_line


def push(folder: Path, repository: str, private: bool) -> str:
    """Upload a folder with a card to a model repository, `OWNER/NAME`, which is made where there is none; the address
    of the commit. Raises UserError, a line.
    """
    if not (folder / "README.md").is_file():
        raise UserError(f"{folder}: no README.md there; diffprobe card writes such a folder")
    try:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.utils import disable_progress_bars
    except ImportError:
        raise UserError("the package huggingface_hub is missing; pip install huggingface_hub") from None
    token = get_token()  # of HF_TOKEN, or of a login
    if not token:
        raise UserError("no token for the hub: set HF_TOKEN, or log in with `hf auth login`")
    disable_progress_bars()
    api = HfApi(token=token)
    try:
        name = api.create_repo(repository, private=private, exist_ok=True).repo_id
        commit = api.upload_folder(repo_id=name, folder_path=folder, commit_message="Model card and weights")
    except Exception as error:  # no network, no access, a name or a card that the hub refuses: each has its own
        raise UserError(f"{repository}: cannot be pushed to the hub ({one_line(error).rstrip('. ')})") from None
    return str(commit.commit_url)
