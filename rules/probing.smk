# What a model has learned: the grid of each checkpoint on `select`, the choice over all, `test` read once.


rule grid:
    input:
        store=L.features("{experiment}", "{kimg}"),
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
        mem_mb=4000,
        runtime=120,
    params:
        config=of_experiment(lambda e, w: subtrees.grid(e, row(w))),
    shell:
        "job grid {params.config:q} --in store={input.store:q} images={input.images:q}"
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


rule test:
    input:
        choice=L.choice("{experiment}"),
        images=experiment_images,
        data=experiment_data,
        weights=lambda wildcards: [probed_weights(wildcards, k) for k in experiment(wildcards).train.checkpoints],
    output:
        rows=L.test("{experiment}"),
        receipt=receipt(L.test("{experiment}")),
    log:
        L.log("test", "{experiment}"),
    benchmark:
        L.benchmark("test", "{experiment}")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=4000,
        runtime=120,
    params:
        config=of_experiment(lambda e, w: subtrees.test(e, row(w))),
        weights=lambda wildcards, input: numbered("weights", input.weights),
    shell:
        "job test {params.config:q} --in choice={input.choice:q} images={input.images:q} data={input.data:q} {params.weights}"
        " --out rows={output.rows:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads} --name test.{wildcards.experiment}"
