# Images from each checkpoint's moving average, per named sampler: kept, or measured as they are drawn.


rule sample:
    input:
        weights_file=drawing_weights,
        autoencoder=experiment_autoencoder,
    output:
        samples=L.samples("{experiment}", "{kimg}", "{sampler}"),
        strip=L.strip("{experiment}", "{kimg}", "{sampler}"),
        receipt=store_receipt(L.samples("{experiment}", "{kimg}", "{sampler}")),
    log:
        L.log("sample", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("sample", "{experiment}", "{kimg}", "{sampler}")
    wildcard_constraints:
        experiment=any_of(set(CONFIG.experiments) - AT_ONCE),
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=4000,
        runtime=720,
        draw=lambda wildcards: experiment(wildcards).sample.batch,
    params:
        config=of_experiment(lambda e, w: job_arguments.sample(e, w.sampler)),
        autoencoder=optional("autoencoder"),
    shell:
        "job sample {params.config:q} --in weights={input.weights_file:q} {params.autoencoder}"
        " --out samples={output.samples:q} strip={output.strip:q} receipt={output.receipt:q}"
        " --with draw={resources.draw} --log {log:q} --threads {threads}"
        " --name sample.{wildcards.experiment}.{wildcards.kimg}.{wildcards.sampler}"


rule generate:
    input:
        weights_file=drawing_weights,
        autoencoder=experiment_autoencoder,
        references=asked_references,
        weights=asked_weights,
    output:
        rows=L.generation("{experiment}", "{kimg}", "{sampler}"),
        receipt=receipt(L.generation("{experiment}", "{kimg}", "{sampler}")),
        samples=L.samples("{experiment}", "{kimg}", "{sampler}"),
        samples_receipt=store_receipt(L.samples("{experiment}", "{kimg}", "{sampler}")),
        strip=L.strip("{experiment}", "{kimg}", "{sampler}"),
    log:
        L.log("generate", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("generate", "{experiment}", "{kimg}", "{sampler}")
    wildcard_constraints:
        experiment=any_of(AT_ONCE),
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=6000,
        runtime=720,
        draw=lambda wildcards: experiment(wildcards).sample.batch,
        batch=CONFIG.metrics.batch,
        autosave=str(CONFIG.state.autosave_seconds),
    params:
        config=of_experiment(
            lambda e, w: {
                "sample": job_arguments.sample(e, w.sampler),
                "generation": job_arguments.generation(CONFIG, e, row(w)),
            }
        ),
        autoencoder=optional("autoencoder"),
        measuring=measuring,
    shell:
        "job generate {params.config:q} --in weights={input.weights_file:q} {params.autoencoder} {params.measuring}"
        " --out rows={output.rows:q} receipt={output.receipt:q} samples={output.samples:q}"
        " samples_receipt={output.samples_receipt:q} strip={output.strip:q}"
        " --with draw={resources.draw} batch={resources.batch} autosave={resources.autosave} --log {log:q} --threads {threads}"
        " --name generate.{wildcards.experiment}.{wildcards.kimg}.{wildcards.sampler}"


# On request, by naming the target: snakemake results/runs/EXPERIMENT/samples/KIMG/SAMPLER.npz (or .png).


rule samples_npz:
    input:
        samples=L.samples("{experiment}", "{kimg}", "{sampler}"),
    output:
        npz=L.samples_npz("{experiment}", "{kimg}", "{sampler}"),
    log:
        L.log("samples_npz", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("samples_npz", "{experiment}", "{kimg}", "{sampler}")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    shell:
        "job export {{}} --in samples={input.samples:q} --out npz={output.npz:q} --log {log:q}"
        " --name samples_npz.{wildcards.experiment}.{wildcards.kimg}.{wildcards.sampler}"


rule samples_png:
    input:
        samples=L.samples("{experiment}", "{kimg}", "{sampler}"),
    output:
        png=directory(L.samples_png("{experiment}", "{kimg}", "{sampler}")),
    log:
        L.log("samples_png", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("samples_png", "{experiment}", "{kimg}", "{sampler}")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=240,
    shell:
        "job export {{}} --in samples={input.samples:q} --out png={output.png:q} --log {log:q}"
        " --name samples_png.{wildcards.experiment}.{wildcards.kimg}.{wildcards.sampler}"
