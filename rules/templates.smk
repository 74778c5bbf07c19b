# What all rules share; `use rule compute as ...` says the rest. Conda's environment runs without a GPU too: a login node
# must not choose for the nodes behind it.
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
