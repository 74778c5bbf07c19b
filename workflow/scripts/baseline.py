"""What raw pixels tell: logistic regression, its strength chosen on `select`, refitted, read once on `test`."""

from sklearn.linear_model import LogisticRegression

from diffprobe.data import images
from diffprobe.runtime.files import write_json
from diffprobe.runtime.job import Job, run

STRENGTHS = (0.01, 0.1, 1.0, 10.0)


def fit(path, splits: list[str], strength: float) -> LogisticRegression:
    data = images.read(path, splits)
    return LogisticRegression(C=strength, max_iter=2000).fit(flat(data), data.labels)


def flat(data: images.Images):
    return data.images.reshape(len(data.images), -1) / 255  # (N, H*W*C)


def main(job: Job) -> None:
    path = job.input("images")
    select, test = images.read(path, ["select"]), images.read(path, ["test"])
    scores = {c: fit(path, ["train"], c).score(flat(select), select.labels) for c in STRENGTHS}
    strength = max(scores, key=scores.get)
    accuracy = fit(path, ["train", "select"], strength).score(flat(test), test.labels)
    row = {
        "dataset": job.config["dataset"],
        "evaluator": "pixels_logistic",
        "split": "test",
        "value": accuracy,
    }
    write_json(job.output("rows"), {"rows": [row], "strength": strength, "select": scores[strength]})
    job.write_receipt(images=len(test.labels))


if __name__ == "__main__":
    run(main)
