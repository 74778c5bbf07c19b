# A dataset's images through an autoencoder (trained in training.smk) into a store of latents.


rule pretrained:
    output:
        weights=L.autoencoder_weights("{autoencoder}", PRETRAINED),
        receipt=L.checkpoint(L.autoencoder("{autoencoder}"), PRETRAINED, "receipt.json"),
    log:
        L.log("pretrained", "{autoencoder}"),
    benchmark:
        L.benchmark("pretrained", "{autoencoder}")
    priority: 30
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        config=params_of(
            lambda w: job_arguments.pretrained(CONFIG.autoencoders[w.autoencoder], pretrained_state(w.autoencoder))
        ),
    shell:
        "job pretrained {params.config:q} --out weights={output.weights:q} receipt={output.receipt:q}"
        " --with name={wildcards.autoencoder} --log {log:q} --threads {threads} --name pretrained.{wildcards.autoencoder}"


rule encode:
    input:
        images=latents_images,
        autoencoder=latents_autoencoder,
    output:
        encoded=L.encoded("{latents}", "{job}"),
        receipt=receipt(L.encoded("{latents}", "{job}")),
    log:
        L.log("encode", "{latents}", "{job}"),
    benchmark:
        L.benchmark("encode", "{latents}", "{job}")
    priority: 30
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        # not params: how the work is divided changes no byte
        share=lambda wildcards: f"{wildcards.job}/{CONFIG.latents[wildcards.latents].jobs}",
        batch=lambda wildcards: str(CONFIG.latents[wildcards.latents].batch),
        gpu=gpu,
        mem_mb=4000,
        runtime=720,
    params:
        config=params_of(lambda w: job_arguments.encode(CONFIG, w.latents)),
        store=lambda wildcards: Path(L.latents(wildcards.latents)).parent,
    shell:
        "job encode {params.config:q} --in images={input.images:q} autoencoder={input.autoencoder:q}"
        " --out encoded={output.encoded:q} receipt={output.receipt:q} --with share={resources.share}"
        " batch={resources.batch} store={params.store:q}"
        " --log {log:q} --threads {threads} --name encode.{wildcards.latents}.{wildcards.job}"


rule latents:
    input:
        images=latents_images,
        autoencoder=latents_autoencoder,
        encoded=lambda wildcards: [
            L.encoded(wildcards.latents, job) for job in range(CONFIG.latents[wildcards.latents].jobs)
        ],
    output:
        store=L.latents("{latents}"),
        receipt=store_receipt(L.latents("{latents}")),
    log:
        L.log("latents", "{latents}"),
    benchmark:
        L.benchmark("latents", "{latents}")
    wildcard_constraints:
        latents=any_of(set(CONFIG.latents) - FOREIGN),
    priority: 30
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        config=params_of(lambda w: job_arguments.finish(CONFIG, w.latents)),
        encoded=lambda wildcards, input: numbered("encoded", input.encoded),
    shell:
        "job latents {params.config:q} --in images={input.images:q} autoencoder={input.autoencoder:q} {params.encoded}"
        " --out store={output.store:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads} --name latents.{wildcards.latents}"


rule import_latents:
    input:
        images=latents_images,
        autoencoder=latents_autoencoder,
    output:
        store=L.latents("{latents}"),
        receipt=store_receipt(L.latents("{latents}")),
    log:
        L.log("import_latents", "{latents}"),
    benchmark:
        L.benchmark("import_latents", "{latents}")
    wildcard_constraints:
        latents=any_of(FOREIGN),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        # not params: where the files lie changes no result, their state does
        folder=lambda wildcards: CONFIG.latents[wildcards.latents].imported.path,
        test=lambda wildcards: CONFIG.latents[wildcards.latents].imported.test or "",
        mem_mb=4000,
        runtime=720,
    params:
        config=params_of(lambda w: job_arguments.import_latents(CONFIG, w.latents, foreign_state(w.latents))),
    shell:
        "job import_latents {params.config:q} --in images={input.images:q} autoencoder={input.autoencoder:q}"
        " --out store={output.store:q} receipt={output.receipt:q}"
        " --with folder={resources.folder:q} test={resources.test:q}"
        " --log {log:q} --threads {threads} --name import_latents.{wildcards.latents}"


rule reconstruct:
    input:
        images=latents_images,
        autoencoder=latents_autoencoder,
        weights=lambda wildcards: [
            file for name in reconstructing(CONFIG, wildcards.latents) for file in extractor_weights(name)
        ],
        vgg=lambda wildcards: vgg(CONFIG.latents[wildcards.latents].autoencoder),
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
        mem_mb=6000,
        runtime=240,
        batch=CONFIG.metrics.batch,
        images=lambda wildcards: str(CONFIG.latents[wildcards.latents].batch),
    params:
        config=params_of(lambda w: job_arguments.reconstruct(CONFIG, w.latents)),
        weights=lambda wildcards: weighing(reconstructing(CONFIG, wildcards.latents)),
        more=optional("vgg"),
    shell:
        "job reconstruct {params.config:q} --in images={input.images:q} autoencoder={input.autoencoder:q}"
        " {params.weights} {params.more}"
        " --out rows={output.rows:q} pairs={output.pairs:q} receipt={output.receipt:q}"
        " --with batch={resources.batch} images={resources.images}"
        " --log {log:q} --threads {threads} --name reconstruct.{wildcards.latents}"


# On request, `snakemake verify`: every chunk of every store of latents against its checksum, and what the store says
# of itself. It has no output, so it runs whenever it is asked for. `diffprobe verify --repair` removes what is damaged.
rule verify:
    input:
        [L.latents(name) for name in used_latents(CONFIG)],
    log:
        L.log("verify"),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        stores=lambda wildcards, input: numbered("store", input),
    shell:
        "job verify {{}} --in {params.stores} --log {log:q} --threads {threads} --name verify"
