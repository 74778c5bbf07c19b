# Training, one slice per checkpoint: each job continues from the state that the previous slice left in the run's folder
# (training/slices.py). `start`, `stop` and `run` are params, so a change triggers a rerun.


use rule compute as classifier with:
    input:
        images=lambda w: L.images(CONFIG.extractors[w.extractor].dataset),
    output:
        **outputs(L.extractor("{extractor}")),
    log:
        L.log("classifier", "{extractor}", "{kimg}"),
    benchmark:
        L.benchmark("classifier", "{extractor}", "{kimg}")
    priority: 20
    threads: CONFIG.threads.train
    resources:
        **computing(mem_mb=2000, minutes=120),
    params:
        config=argument(lambda w: job_arguments.classifier(CONFIG.extractors[w.extractor])),
        stop=CLASSIFIER_STOP,
        run=L.extractor("{extractor}"),
        call=call(
            "train",
            progress=f"{L.extractor('{extractor}')}/progress.json",
            kimg=kimg,
            start=0,
            stop=CLASSIFIER_STOP,
            **SAVING,
        ),


use rule compute as autoencoder with:
    input:
        images=lambda w: L.images(CONFIG.autoencoders[w.autoencoder].dataset),
        vgg=lambda w: FILES.vgg(w.autoencoder),
    output:
        **outputs(L.autoencoder("{autoencoder}")),
    log:
        L.log("autoencoder", "{autoencoder}", "{kimg}"),
    benchmark:
        L.benchmark("autoencoder", "{autoencoder}", "{kimg}")
    priority: 30  # whole experiments wait for it
    threads: CONFIG.threads.train
    resources:
        **computing(minutes=1440),
    params:
        config=argument(lambda w: job_arguments.autoencoder(CONFIG.autoencoders[w.autoencoder])),
        stop=AUTOENCODER_STOP,
        run=L.autoencoder("{autoencoder}"),
        call=call(
            "train",
            progress=f"{L.autoencoder('{autoencoder}')}/progress.json",
            kimg=kimg,
            start=0,
            stop=AUTOENCODER_STOP,
            device_batch=lambda w: CONFIG.autoencoders[w.autoencoder].train.device_batch,
            **SAVING,
        ),


use rule compute as pretrain with:
    input:
        images=lambda w: FILES.images(w.experiment),
        latents=lambda w: FILES.latents(w.experiment),
        autoencoder=lambda w: FILES.autoencoder(w.experiment),
        before=lambda w: FILES.before(w.experiment, int(w.kimg)),
        initial=lambda w: FILES.initial(w.experiment),
    output:
        **outputs(L.run("{experiment}")),
    log:
        L.log("pretrain", "{experiment}", "{kimg}"),
    benchmark:
        L.benchmark("pretrain", "{experiment}", "{kimg}")
    wildcard_constraints:
        experiment=any_of(set(CONFIG.experiments) - IMPORTED),
    priority: 10  # before evaluations, which would otherwise occupy all devices while the next slice waits
    threads: CONFIG.threads.train
    resources:
        **computing(
            mem_mb=lambda w: memory.training(CONFIG, experiment(w), nodes(w) if CLUSTER else 1),
            minutes=1440,
            gpu=lambda w: GPU * experiment(w).train.devices,
        ),
        **ON_NODES,
    params:
        config=of_experiment(lambda e, _: job_arguments.pretrain(CONFIG, e), "experiment"),
        start=pretrain_start,
        stop=PRETRAIN_STOP,
        run=L.run("{experiment}"),
        call=call(
            "train",
            progress=f"{L.run('{experiment}')}/progress.json",
            kimg=kimg,
            start=pretrain_start,
            stop=PRETRAIN_STOP,
            **ON_DEVICES,
            **SAVING,
        ),


use rule handle as imported with:
    input:
        weights=lambda w: FILES.imported(w.experiment),
        images=lambda w: FILES.images(w.experiment) if experiment(w).latents else [],  # without, as before
        latents=lambda w: FILES.latents(w.experiment),
    output:
        ema=L.ema("{experiment}", "{kimg}"),
        receipt=L.checkpoint(L.run("{experiment}"), "{kimg}", "receipt.json"),
    log:
        L.log("imported", "{experiment}", "{kimg}"),
    benchmark:
        L.benchmark("imported", "{experiment}", "{kimg}")
    wildcard_constraints:
        experiment=any_of(IMPORTED),
    resources:
        **handling(mem_mb=4000, minutes=30),
    params:
        config=of_experiment(lambda e, _: job_arguments.imported(e)),
        call=call("imported"),
