# A dataset's images through an autoencoder (trained in training.smk) into a store of latents.


rule encode:
    input:
        images=latents_images,
        autoencoder=latents_autoencoder,
    output:
        store=L.latents("{latents}"),
        receipt=store_receipt(L.latents("{latents}")),
    log:
        L.log("encode", "{latents}"),
    benchmark:
        L.benchmark("encode", "{latents}")
    priority: 30
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=4000,
        runtime=720,
    params:
        config=params_of(lambda w: subtrees.encode(CONFIG, w.latents)),
    shell:
        "job encode {params.config:q} --in images={input.images:q} autoencoder={input.autoencoder:q}"
        " --out store={output.store:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads} --name encode.{wildcards.latents}"


rule reconstruct:
    input:
        images=latents_images,
        autoencoder=latents_autoencoder,
    output:
        rows=L.reconstruction("{latents}"),
        pairs=L.pairs("{latents}"),
        receipt=receipt(L.reconstruction("{latents}")),
    log:
        L.log("reconstruct", "{latents}"),
    benchmark:
        L.benchmark("reconstruct", "{latents}")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=4000,
        runtime=120,
    params:
        config=params_of(lambda w: subtrees.reconstruct(CONFIG, w.latents)),
    shell:
        "job reconstruct {params.config:q} --in images={input.images:q} autoencoder={input.autoencoder:q}"
        " --out rows={output.rows:q} pairs={output.pairs:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads} --name reconstruct.{wildcards.latents}"
