# Features of every tap at every level of a checkpoint, computed once, in one job.


rule features:
    input:
        weights=lambda wildcards: probed_weights(wildcards, wildcards.kimg),
        data=experiment_data,
    output:
        store=L.features("{experiment}", "{kimg}"),
        receipt=store_receipt(L.features("{experiment}", "{kimg}")),
    log:
        L.log("features", "{experiment}", "{kimg}"),
    benchmark:
        L.benchmark("features", "{experiment}", "{kimg}")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=4000,
        runtime=240,
    params:
        config=of_experiment(lambda e, _: subtrees.features(e)),
    shell:
        "job features {params.config:q} --in weights={input.weights:q} data={input.data:q}"
        " --out store={output.store:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads} --name features.{wildcards.experiment}.{wildcards.kimg}"
