"""A model's card is what the hub takes, holds what was measured, and arrives there whole."""

import base64
import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard

import diffprobe
from diffprobe.__main__ import main
from diffprobe.interop.push import push
from diffprobe.reporting.card import is_shown
from diffprobe.reporting.rows import ResultRow
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.receipts import read_receipt


@pytest.fixture(scope="module")
def card(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command writes."""
    out, said = tmp_path_factory.mktemp("cards") / "tiny", io.StringIO()
    with contextlib.chdir(finished), contextlib.redirect_stdout(said):
        main(["card", "tiny", "--out", str(out), "--license", "cc-by-4.0"])
    assert f"{out}: the checkpoint at " in said.getvalue() and "unknown" not in said.getvalue()
    return out


def test_its_front_matter_is_the_hubs_and_its_results_are_those_of_the_tables(card: Path, finished: Path) -> None:
    read = ModelCard.load(card / "README.md", ignore_metadata_errors=False)  # raises where the hub's client does
    assert (read.data.license, read.data.model_name) == ("cc-by-4.0", "tiny") and "edm" in read.data.tags
    table = pd.read_csv(finished / "results/summary.csv")
    chosen = json.loads((finished / "results/runs/tiny/probe/choice.json").read_text())["kimg"]
    own = table[(table["experiment"] == "tiny") & (table["kimg"] == chosen)]
    shown = {result.metric_name: result.metric_value for result in read.data.eval_results}
    expected = own[(own["split"] == "test") | own["evaluator"].str.startswith("fd")]
    expected = expected[~expected["evaluator"].str.contains("memorised|nearest")]
    assert shown == pytest.approx(dict(zip(expected["evaluator"], expected["value"], strict=True)), abs=1e-6)
    assert set(shown) == {"linear", "knn", "fd40_classifier"}


def test_it_holds_weights_figures_data_receipts_and_config(card: Path) -> None:
    model = diffprobe.load(str(card / "model.safetensors"))
    assert model.sample(2, seed=0).shape == (2, 8, 8, 1)
    text = (card / "README.md").read_text()
    assert "kimg</em>" not in text  # of captions
    linked = [part.split(")")[0] for part in text.split("](")[1:]]
    assert len(linked) > 10 and [name for name in linked if not (card / name).exists()] == []
    assert {"figures/curves.png", "figures/curves.csv", "figures/losses.png"} <= set(linked)
    receipts = sorted(card.glob("receipts/**/*receipt.json"))
    assert len(receipts) > 10 and all(read_receipt(path) for path in receipts)
    assert yaml.safe_load((card / "config.yaml").read_text())["network"]["kind"] == "unet"


def test_a_model_of_latents_comes_with_its_autoencoder(finished: Path, tmp_path: Path) -> None:
    with contextlib.chdir(finished), contextlib.redirect_stdout(io.StringIO()):
        main(["card", "tiny_dit", "--out", str(tmp_path / "card")])
    model = diffprobe.load(tmp_path / "card/model.safetensors", autoencoder=tmp_path / "card/autoencoder.safetensors")
    assert model.sample(2, seed=0).shape == (2, 8, 8, 1)
    assert 'autoencoder="autoencoder.safetensors"' in (tmp_path / "card/README.md").read_text()


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"evaluator": "linear", "split": "test"}, True),
        ({"evaluator": "linear", "split": "select"}, False),
        (
            {"evaluator": "fd5k_inception_768", "split": "train+select", "sampler": "heun", "extractor": "inception"},
            True,
        ),
        ({"evaluator": "psnr", "split": "test", "sampler": "heun"}, False),  # of decodings
        ({"evaluator": "imagenet_linear", "split": "test", "extractor": "imagenet"}, False),  # of another network
        ({"evaluator": "dense_miou", "split": "test"}, False),
    ],
)
def test_its_results_are_accuracies_of_its_features_and_distances(row: ResultRow, shown: bool) -> None:
    assert is_shown(row) == shown


def test_of_other_weights_it_has_no_figures_of_those_that_were_measured(finished: Path, tmp_path: Path) -> None:
    with contextlib.chdir(finished), contextlib.redirect_stdout(io.StringIO()):
        main(["card", "tiny", "--weights", "raw", "--out", str(tmp_path / "raw")])
    text = (tmp_path / "raw/README.md").read_text()
    assert "model-index" not in text and "## Results" not in text and "those here are `raw`" in text
    assert 'diffprobe.load("model.safetensors", weights="raw")' in text
    model = diffprobe.load(tmp_path / "raw/model.safetensors", weights="raw")
    assert model.sample(2, seed=0).shape == (2, 8, 8, 1)


@pytest.fixture
def copied(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project, to be changed."""
    shutil.copytree(finished, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project/results/runs"


def test_results_of_weights_that_are_no_longer_there_are_left_out(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kimg = json.loads((copied / "tiny/probe/choice.json").read_text())["kimg"]
    other = next(path for path in copied.glob("tiny/checkpoints/*/ema.safetensors") if path.parent.name != str(kimg))
    shutil.copyfile(other, copied / f"tiny/checkpoints/{kimg}/ema.safetensors")  # as an interrupted run leaves it
    main(["card", "tiny"])
    said = capsys.readouterr().out
    assert "results are of other weights than these, and are left out: run the experiment again" in said
    assert "figures are older than these weights, and are left out" in said
    text = Path("cards/tiny/README.md").read_text()
    assert "model-index" not in text and "## Results" not in text and "## Figures" not in text
    assert len(Path("cards/tiny/results.csv").read_text().splitlines()) <= 1
    receipts = {path.parent.name for path in Path("cards/tiny/receipts").rglob("*receipt.json")}
    assert "test" not in receipts and str(kimg) in receipts  # the weights' own is there


def test_an_autoencoder_that_was_made_again_does_not_go_along(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = copied.parent.glob("autoencoders/*/checkpoints/*/ema.safetensors")
    shutil.copyfile(copied / "tiny/checkpoints/3/ema.safetensors", path)
    with pytest.raises(SystemExit):
        main(["card", "tiny_dit"])
    assert "is another autoencoder than this model was trained with" in capsys.readouterr().err
    assert not Path("cards").exists() or list(Path("cards").iterdir()) == []


def test_checkpoints_of_an_earlier_config_are_not_taken_for_the_latest(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own,) = copied.glob("tiny_dit/checkpoints/*")
    shutil.copytree(own, own.with_name("99"))
    main(["export", "--format", "safetensors", "--experiment", "tiny_dit", "dit.safetensors"])
    said = capsys.readouterr().out
    assert "tiny_dit/checkpoints/" in said and "checkpoints/99" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tiny"], "nothing is replaced"),
        (["other"], "no such experiment; there are tiny"),
        (["tiny", "--kimg", "7"], "no checkpoint at 7 kimg; there are 3, 6"),
    ],
)
def test_it_replaces_nothing_and_names_what_there_is(
    card: Path, finished: Path, capsys: pytest.CaptureFixture, tmp_path: Path, words: list[str], said: str
) -> None:
    out = str(card if words == ["tiny"] else tmp_path / "new")
    with contextlib.chdir(finished), pytest.raises(SystemExit):
        main(["card", *words, "--out", out])
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A hub on loopback that keeps the files of a commit, by name; and one request by its path."""
    kept: dict[str, bytes] = {}

    class Hub(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Authorization"] == "Bearer hf_secret" or "validate" in self.path
            answer: dict = {"errors": [], "warnings": []}
            if self.path == "/api/repos/create":
                kept["created"] = content
                answer = {"url": f"http://127.0.0.1/me/{json.loads(content)['name']}"}
            elif self.path.endswith("/preupload/main"):
                files = json.loads(content)["files"]
                answer = {
                    "files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]
                }
            elif self.path.endswith("/commit/main"):
                for line in content.splitlines():
                    value = json.loads(line)["value"]
                    if "path" in value:
                        kept[value["path"]] = base64.b64decode(value["content"])
                answer = {"commitUrl": "http://127.0.0.1/me/tiny/commit/1", "commitOid": "1" * 40, "hookOutput": ""}
            self.answer(answer)

        def do_GET(self) -> None:
            self.answer({"sha": "0" * 40, "siblings": [], "id": "me/tiny", "private": False})

        def answer(self, content: dict) -> None:
            text = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", huggingface_hub.constants.ENDPOINT, raising=False)
    yield kept
    server.shutdown()
    server.server_close()


def test_it_arrives_whole(card: Path, hub: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert push(card, "me/tiny", private=True) == "http://127.0.0.1/me/tiny/commit/1"
    assert "private" in json.loads(hub.pop("created")).values()
    files = {str(path.relative_to(card)): path.read_bytes() for path in card.rglob("*") if path.is_file()}
    assert hub == files


def test_without_a_token_or_a_card_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match=r"no README.md there; diffprobe card writes such a folder"):
        push(tmp_path, "me/tiny", private=False)
    (tmp_path / "README.md").touch()
    with pytest.raises(UserError, match="no token for the hub: set HF_TOKEN"):
        push(tmp_path, "me/tiny", private=False)
