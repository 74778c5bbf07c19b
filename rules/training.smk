# Training runs, a slice from checkpoint to checkpoint: each rule's job continues from what the slice before left in
# the run's folder (training/slices.py).


rule classifier:
    input:
        images=lambda wildcards: L.images(CONFIG.extractors[wildcards.extractor].dataset),
    output:
        ema=L.checkpoint(L.extractor("{extractor}"), "{kimg}", "ema.safetensors"),
        raw=L.checkpoint(L.extractor("{extractor}"), "{kimg}", "raw.safetensors"),
        stats=L.checkpoint(L.extractor("{extractor}"), "{kimg}", "stats.jsonl"),
        receipt=L.checkpoint(L.extractor("{extractor}"), "{kimg}", "receipt.json"),
    log:
        L.log("classifier", "{extractor}", "{kimg}"),
    benchmark:
        L.benchmark("classifier", "{extractor}", "{kimg}")
    priority: 20
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.train
    resources:
        **SAVING,
        gpu=gpu,
        mem_mb=2000,
        runtime=120,
    params:
        config=lambda wildcards: canonical(job_arguments.classifier(CONFIG.extractors[wildcards.extractor])),
        stop=lambda wildcards: checkpoint_steps(int(wildcards.kimg), CONFIG.extractors[wildcards.extractor].batch),
        run=L.extractor("{extractor}"),
    shell:
        "job train {params.config:q} --in images={input.images:q}"
        " --out ema={output.ema:q} raw={output.raw:q} stats={output.stats:q} receipt={output.receipt:q}"
        " --with kimg={wildcards.kimg} start=0 stop={params.stop} keep={resources.keep} autosave={resources.autosave}"
        " --progress {params.run:q}/progress.json --log {log:q} --threads {threads}"
        " --name classifier.{wildcards.extractor}"


rule autoencoder:
    input:
        images=lambda wildcards: L.images(CONFIG.autoencoders[wildcards.autoencoder].dataset),
        vgg=lambda wildcards: vgg(wildcards.autoencoder),
    output:
        ema=L.checkpoint(L.autoencoder("{autoencoder}"), "{kimg}", "ema.safetensors"),
        raw=L.checkpoint(L.autoencoder("{autoencoder}"), "{kimg}", "raw.safetensors"),
        stats=L.checkpoint(L.autoencoder("{autoencoder}"), "{kimg}", "stats.jsonl"),
        receipt=L.checkpoint(L.autoencoder("{autoencoder}"), "{kimg}", "receipt.json"),
    log:
        L.log("autoencoder", "{autoencoder}", "{kimg}"),
    benchmark:
        L.benchmark("autoencoder", "{autoencoder}", "{kimg}")
    priority: 30  # a whole experiment waits for it
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.train
    resources:
        **SAVING,
        gpu=gpu,
        device_batch=lambda wildcards: str(CONFIG.autoencoders[wildcards.autoencoder].train.device_batch or 0),
        mem_mb=4000,
        runtime=1440,
    params:
        config=params_of(lambda w: job_arguments.autoencoder(CONFIG.autoencoders[w.autoencoder])),
        stop=lambda wildcards: checkpoint_steps(
            int(wildcards.kimg), CONFIG.autoencoders[wildcards.autoencoder].train.batch
        ),
        more=optional("vgg"),
        run=L.autoencoder("{autoencoder}"),
    shell:
        "job train {params.config:q} --in images={input.images:q} {params.more}"
        " --out ema={output.ema:q} raw={output.raw:q} stats={output.stats:q} receipt={output.receipt:q}"
        " --with kimg={wildcards.kimg} start=0 stop={params.stop} keep={resources.keep} autosave={resources.autosave}"
        " tensorboard={resources.tensorboard} device_batch={resources.device_batch}"
        " --progress {params.run:q}/progress.json --log {log:q} --threads {threads}"
        " --name autoencoder.{wildcards.autoencoder}"


rule pretrain:
    input:
        images=experiment_images,
        latents=experiment_latents,
        autoencoder=experiment_autoencoder,
        before=lambda wildcards: (L.ema(wildcards.experiment, before(wildcards)) if before(wildcards) else []),
    output:
        ema=L.ema("{experiment}", "{kimg}"),
        raw=L.checkpoint(L.run("{experiment}"), "{kimg}", "raw.safetensors"),
        stats=L.checkpoint(L.run("{experiment}"), "{kimg}", "stats.jsonl"),
        receipt=L.checkpoint(L.run("{experiment}"), "{kimg}", "receipt.json"),
    log:
        L.log("pretrain", "{experiment}", "{kimg}"),
    benchmark:
        L.benchmark("pretrain", "{experiment}", "{kimg}")
    wildcard_constraints:
        experiment=any_of(set(CONFIG.experiments) - IMPORTED),
    priority: 10  # before evaluations, or they take every device while the next slice waits
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.train
    resources:
        **SAVING,
        gpu=training_gpus,
        device_batch=device_batch,
        compile=lambda wildcards: experiment(wildcards).train.compile,
        latents=f"{CONFIG.memory_budget.device_gib:g}/{CONFIG.memory_budget.host_gib:g}",
        launch=launch,
        mem_mb=training_memory,
        runtime=1440,
    params:
        config=of_experiment(lambda e, _: job_arguments.pretrain(CONFIG, e)),
        start=lambda wildcards: checkpoint_steps(before(wildcards), experiment(wildcards).train.batch),
        stop=lambda wildcards: checkpoint_steps(int(wildcards.kimg), experiment(wildcards).train.batch),
        more=optional("latents", "autoencoder", "before"),
        run=L.run("{experiment}"),
    shell:
        "{resources.launch}job train {params.config:q} --in images={input.images:q} {params.more}"
        " --out ema={output.ema:q} raw={output.raw:q} stats={output.stats:q} receipt={output.receipt:q}"
        " --with kimg={wildcards.kimg} start={params.start} stop={params.stop}"
        " keep={resources.keep} autosave={resources.autosave} tensorboard={resources.tensorboard}"
        " device_batch={resources.device_batch} compile={resources.compile} memory={resources.latents}"
        " --progress {params.run:q}/progress.json --log {log:q} --threads {threads}"
        " --name pretrain.{wildcards.experiment}.{wildcards.kimg}"


rule imported:
    input:
        weights=lambda wildcards: experiment(wildcards).train.imported,
    output:
        ema=L.ema("{experiment}", "{kimg}"),
        receipt=L.checkpoint(L.run("{experiment}"), "{kimg}", "receipt.json"),
    log:
        L.log("imported", "{experiment}", "{kimg}"),
    benchmark:
        L.benchmark("imported", "{experiment}", "{kimg}")
    wildcard_constraints:
        experiment=any_of(IMPORTED),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        config=of_experiment(lambda e, _: job_arguments.imported(e)),
    shell:
        "job imported {params.config:q} --in weights={input.weights:q}"
        " --out ema={output.ema:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads} --name imported.{wildcards.experiment}.{wildcards.kimg}"
