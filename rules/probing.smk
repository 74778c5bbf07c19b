# What a model has learned: the grid of each checkpoint on `select`, the choice over all, `test` read once.


rule grid:
    input:
        store=feature_stores,
        images=experiment_images,
    output:
        grid=L.grid("{experiment}", "{kimg}"),
        select=L.select("{experiment}", "{kimg}"),
        receipt=receipt(L.grid("{experiment}", "{kimg}")),
    log:
        L.log("grid", "{experiment}", "{kimg}"),
    benchmark:
        L.benchmark("grid", "{experiment}", "{kimg}")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=probing_memory,
        runtime=120,
    params:
        config=of_experiment(lambda e, w: job_arguments.grid(e, row(w))),
        store=lambda wildcards, input: numbered("store", input.store),
    shell:
        "job grid {params.config:q} --in {params.store} images={input.images:q}"
        " --out grid={output.grid:q} select={output.select:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads} --name grid.{wildcards.experiment}.{wildcards.kimg}"


rule choice:
    input:
        select=lambda wildcards: [L.select(wildcards.experiment, k) for k in experiment(wildcards).train.checkpoints],
    output:
        choice=L.choice("{experiment}"),
        receipt=receipt(L.choice("{experiment}")),
    log:
        L.log("choice", "{experiment}"),
    benchmark:
        L.benchmark("choice", "{experiment}")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        select=lambda wildcards, input: numbered("select", input.select),
    shell:
        "job choice {{}} --in {params.select} --out choice={output.choice:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads} --name choice.{wildcards.experiment}"


rule evaluate:
    input:
        choice=L.choice("{experiment}"),
        store=L.chosen("{experiment}"),
        images=experiment_images,
    output:
        rows=L.test("{experiment}", "{evaluator}"),
        receipt=receipt(L.test("{experiment}", "{evaluator}")),
    log:
        L.log("evaluate", "{experiment}", "{evaluator}"),
    benchmark:
        L.benchmark("evaluate", "{experiment}", "{evaluator}")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=probing_memory,
        runtime=120,
    params:
        config=of_experiment(lambda e, w: job_arguments.evaluate(e, w.evaluator, row(w))),
    shell:
        "job evaluate {params.config:q} --in choice={input.choice:q} store={input.store:q} images={input.images:q}"
        " --out rows={output.rows:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads} --name evaluate.{wildcards.experiment}.{wildcards.evaluator}"
