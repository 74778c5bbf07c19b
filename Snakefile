# diffprobe: from images to a report. `snakemake --cores 2` makes everything that config/config.yaml asks for.
import os

from snakemake.utils import min_version

min_version("9.20")

if not workflow.overwrite_configfiles:  # another --configfile takes the default's place
    HERE = workflow.current_basedir.get_path_or_uri(secret_free=True)

    configfile: next(filter(os.path.exists, ["config/config.yaml"]), f"{HERE}/config/config.yaml")


include: "rules/common.smk"
include: "rules/templates.smk"
include: "rules/data.smk"
include: "rules/training.smk"
include: "rules/latents.smk"
include: "rules/sampling.smk"
include: "rules/generation.smk"
include: "rules/features.smk"
include: "rules/probing.smk"
include: "rules/monitors.smk"
include: "rules/finetuning.smk"
include: "rules/report.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        [file for stage in FILES.graph.stages for file in stage.requested_files],
    localrule: True


include: "rules/speed.smk"
