# Features of every tap at every level of a checkpoint, computed once: in one job, or with levels_per_job in several.

KEEP = (lambda store: store) if CONFIG.state.keep_features == "all" else temp


rule features:
    input:
        weights=lambda wildcards: probed_weights(wildcards, wildcards.kimg),
        data=experiment_data,
        images=experiment_images,
    output:
        store=KEEP(directory(L.features("{experiment}", "{kimg}", "{part}"))),
        receipt=receipt(L.features("{experiment}", "{kimg}", "{part}")),
    log:
        L.log("features", "{experiment}", "{kimg}", "{part}"),
    benchmark:
        L.benchmark("features", "{experiment}", "{kimg}", "{part}")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=probing_memory,
        runtime=240,
        batch=lambda wildcards: experiment(wildcards).probe.batch,
    params:
        config=of_experiment(lambda e, w: job_arguments.features(e, int(w.part))),
    shell:
        "job features {params.config:q} --in weights={input.weights:q} data={input.data:q} images={input.images:q}"
        " --out store={output.store:q} receipt={output.receipt:q} --with batch={resources.batch}"
        " --log {log:q} --threads {threads} --name features.{wildcards.experiment}.{wildcards.kimg}.{wildcards.part}"


rule chosen:
    input:
        choice=L.choice("{experiment}"),
        data=experiment_data,
        weights=lambda wildcards: [probed_weights(wildcards, k) for k in experiment(wildcards).train.checkpoints],
    output:
        store=L.chosen("{experiment}"),
        receipt=store_receipt(L.chosen("{experiment}")),
    log:
        L.log("chosen", "{experiment}"),
    benchmark:
        L.benchmark("chosen", "{experiment}")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=4000,
        runtime=240,
        batch=lambda wildcards: experiment(wildcards).probe.batch,
    params:
        config=of_experiment(lambda e, _: job_arguments.chosen(e)),
        weights=lambda wildcards, input: numbered("weights", input.weights),
    shell:
        "job chosen {params.config:q} --in choice={input.choice:q} data={input.data:q} {params.weights}"
        " --out store={output.store:q} receipt={output.receipt:q} --with batch={resources.batch}"
        " --log {log:q} --threads {threads} --name chosen.{wildcards.experiment}"
