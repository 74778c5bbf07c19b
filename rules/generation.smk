# How good samples are: reference statistics once per dataset and extractor, then each checkpoint against them; and
# whether they are copies, by the training images that are nearest to them.


rule reference:
    input:
        images=L.images("{dataset}"),
        weights=lambda wildcards: extractor_weights(wildcards.extractor),
        brought=brought,
    output:
        reference=L.reference("{dataset}", "{extractor}"),
        receipt=receipt(L.reference("{dataset}", "{extractor}")),
    log:
        L.log("reference", "{dataset}", "{extractor}"),
    benchmark:
        L.benchmark("reference", "{dataset}", "{extractor}")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=6000,
        runtime=720,
        batch=CONFIG.metrics.batch,
        autosave=str(CONFIG.state.autosave_seconds),
        kept=CONFIG.metrics.references,
    params:
        config=params_of(lambda w: job_arguments.reference(CONFIG, w.extractor)),
        more=optional("weights", "brought"),
    shell:
        "job reference {params.config:q} --in images={input.images:q} {params.more}"
        " --out reference={output.reference:q} receipt={output.receipt:q}"
        " --with batch={resources.batch} autosave={resources.autosave} kept={resources.kept:q}"
        " --log {log:q} --threads {threads} --name reference.{wildcards.dataset}.{wildcards.extractor}"


rule generation:
    input:
        samples=L.samples("{experiment}", "{kimg}", "{sampler}"),
        references=asked_references,
        weights=asked_weights,
    output:
        rows=L.generation("{experiment}", "{kimg}", "{sampler}"),
        receipt=receipt(L.generation("{experiment}", "{kimg}", "{sampler}")),
    log:
        L.log("generation", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("generation", "{experiment}", "{kimg}", "{sampler}")
    wildcard_constraints:
        experiment=any_of(set(CONFIG.experiments) - AT_ONCE),
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=6000,
        runtime=720,
        batch=CONFIG.metrics.batch,
        autosave=str(CONFIG.state.autosave_seconds),
    params:
        config=of_experiment(lambda e, w: job_arguments.generation(CONFIG, e, row(w))),
        measuring=measuring,
    shell:
        "job generation {params.config:q} --in samples={input.samples:q} {params.measuring}"
        " --out rows={output.rows:q} receipt={output.receipt:q}"
        " --with batch={resources.batch} autosave={resources.autosave} --log {log:q} --threads {threads}"
        " --name generation.{wildcards.experiment}.{wildcards.kimg}.{wildcards.sampler}"


rule nearest:
    input:
        samples=L.samples("{experiment}", "{kimg}", "{sampler}"),
        images=experiment_images,
    output:
        rows=L.nearest("{experiment}", "{kimg}", "{sampler}"),
        pairs=L.nearest_pairs("{experiment}", "{kimg}", "{sampler}"),
        receipt=receipt(L.nearest("{experiment}", "{kimg}", "{sampler}")),
    log:
        L.log("nearest", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("nearest", "{experiment}", "{kimg}", "{sampler}")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=4000,
        runtime=240,
    params:
        config=of_experiment(lambda e, w: job_arguments.nearest(e.generation.nearest, row(w), e.train.splits)),
    shell:
        "job nearest {params.config:q} --in samples={input.samples:q} images={input.images:q}"
        " --out rows={output.rows:q} pairs={output.pairs:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads}"
        " --name nearest.{wildcards.experiment}.{wildcards.kimg}.{wildcards.sampler}"


rule nearest_real:
    input:
        images=L.images("{dataset}"),
    output:
        rows=L.nearest_real("{dataset}"),
        receipt=receipt(L.nearest_real("{dataset}")),
    log:
        L.log("nearest_real", "{dataset}"),
    benchmark:
        L.benchmark("nearest_real", "{dataset}")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=4000,
        runtime=240,
    params:
        config=params_of(lambda w: job_arguments.nearest(most_compared(w.dataset), {"dataset": w.dataset})),
    shell:
        "job nearest {params.config:q} --in images={input.images:q}"
        " --out rows={output.rows:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads} --name nearest_real.{wildcards.dataset}"
