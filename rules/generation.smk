# How good samples are: reference statistics once per dataset and extractor, then each checkpoint against them.


rule reference:
    input:
        images=L.images("{dataset}"),
        weights=lambda wildcards: extractor_weights(wildcards.extractor),
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
        mem_mb=4000,
        runtime=120,
    params:
        config=lambda wildcards: canonical(subtrees.extractor(CONFIG, wildcards.extractor)),
        weights=optional("weights"),
    shell:
        "job reference {params.config:q} --in images={input.images:q} {params.weights}"
        " --out reference={output.reference:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads} --name reference.{wildcards.dataset}.{wildcards.extractor}"


rule generation:
    input:
        samples=L.samples("{experiment}", "{kimg}", "{sampler}"),
        reference=lambda wildcards: L.reference(
            experiment(wildcards).dataset, experiment(wildcards).generation.extractor
        ),
        weights=lambda wildcards: extractor_weights(experiment(wildcards).generation.extractor),
    output:
        rows=L.generation("{experiment}", "{kimg}", "{sampler}"),
        receipt=receipt(L.generation("{experiment}", "{kimg}", "{sampler}")),
    log:
        L.log("generation", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("generation", "{experiment}", "{kimg}", "{sampler}")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=4000,
        runtime=120,
    params:
        config=of_experiment(lambda e, w: subtrees.generation(CONFIG, e, row(w))),
        weights=optional("weights"),
    shell:
        "job generation {params.config:q}"
        " --in samples={input.samples:q} reference={input.reference:q} {params.weights}"
        " --out rows={output.rows:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads}"
        " --name generation.{wildcards.experiment}.{wildcards.kimg}.{wildcards.sampler}"
