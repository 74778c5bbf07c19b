# Images from each checkpoint's moving average, per named sampler.


rule sample:
    input:
        ema=L.ema("{experiment}", "{kimg}"),
        autoencoder=experiment_autoencoder,
    output:
        samples=L.samples("{experiment}", "{kimg}", "{sampler}"),
        strip=L.strip("{experiment}", "{kimg}", "{sampler}"),
        receipt=receipt(L.samples("{experiment}", "{kimg}", "{sampler}")),
    log:
        L.log("sample", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("sample", "{experiment}", "{kimg}", "{sampler}")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=4000,
        runtime=240,
    params:
        config=of_experiment(lambda e, w: subtrees.sample(e, w.sampler)),
        autoencoder=optional("autoencoder"),
    shell:
        "job sample {params.config:q} --in ema={input.ema:q} {params.autoencoder}"
        " --out samples={output.samples:q} strip={output.strip:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads}"
        " --name sample.{wildcards.experiment}.{wildcards.kimg}.{wildcards.sampler}"
