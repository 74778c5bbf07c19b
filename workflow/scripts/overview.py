"""The first page of the report, and the figure of all experiments on it.

Config: `plan.arguments.OverviewArgument`. Inputs: results.N with rows; choice.N of the experiments of `probed`;
samples.N of those of `drawn`. Outputs: page; plot and data, where any experiment has both a distance and a probe.
"""

import io

from diffprobe.runtime.job import Job, run

from diffprobe.data.samples import open_samples
from diffprobe.plan.arguments import OverviewArgument
from diffprobe.reporting import html, mosaics, overview
from diffprobe.reporting.overview import COLUMNS, ROWS, WIDTH, Strip
from diffprobe.reporting.tables import results, summary
from diffprobe.runtime.files import atomic
from diffprobe.runtime.results import read_result, read_rows


def main(job: Job) -> None:
    argument = OverviewArgument.model_validate(job.config)
    rows = [row for path in job.group("results") for row in read_rows(path)]
    probed = dict(zip(argument.probed, [read_result(path, dict) for path in job.group("choice")], strict=True))
    choices = {name: probed.get(name) for name in argument.experiments}
    strips = []
    for one, path in zip(argument.drawn, job.group("samples"), strict=True):
        store = open_samples(path)
        shown = store.read(0, min(store.shape[0], COLUMNS * ROWS))  # uint8 (n, H, W, C)
        scale = max(1, WIDTH // (COLUMNS * shown.shape[2]))
        words = f"{one.kimg} thousand images, {one.sampler}"
        strips.append(Strip(one.experiment, words, overview.strip(mosaics.grid(shown, COLUMNS, ROWS, scale))))
    points = overview.points(summary(rows), choices)
    data, picture = points.to_csv(index=False).encode(errors="replace"), io.BytesIO()
    if "plot" in job.outputs:
        overview.plot(points, choices, argument.dpi).savefig(picture)
        for name, content in (("data", data), ("plot", picture.getvalue())):
            with atomic(job.output(name)) as partial:
                partial.write_bytes(content)
    with atomic(job.output("page")) as partial:
        html.save(partial, overview.page(results(rows, choices), picture.getvalue() or None, data, strips))


if __name__ == "__main__":
    run(main)
