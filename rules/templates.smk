# Templates of all rules, extended by `use rule compute as ...`. The conda environment supports both GPU and CPU:
# whether a login node has a GPU says nothing about the nodes that run the jobs.
rule compute:
    log:
        L.log("compute"),
    conda:
        str(ROOT / "envs" / "cuda.yaml")
    threads: CONFIG.threads.evaluate
    resources:
        **computing(),
    params:
        config=no_argument,
        call="",
    shell:
        JOB


use rule compute as handle with:
    log:
        L.log("handle"),
    threads: 1
    resources:
        **handling(),
