# Features of every tap and noise level, once per checkpoint: in one job, or in several with levels_per_job.

KEEP = (lambda store: store) if CONFIG.state.keep_features == "all" else temp


use rule compute as features with:
    input:
        weights=lambda w: FILES.probed_weights(w.experiment, w.kimg),
        data=lambda w: FILES.data(w.experiment),
        images=lambda w: FILES.images(w.experiment),
    output:
        store=KEEP(directory(L.features("{experiment}", "{kimg}", "{part}"))),
        receipt=receipt(L.features("{experiment}", "{kimg}", "{part}")),
    log:
        L.log("features", "{experiment}", "{kimg}", "{part}"),
    benchmark:
        L.benchmark("features", "{experiment}", "{kimg}", "{part}")
    resources:
        **computing(mem_mb=probing_memory),
    params:
        config=of_experiment(lambda e, w: probe_job_arguments.features(e, int(w.part)), "experiment", "part"),
        call=call("features", batch=lambda w: experiment(w).probe.batch),


use rule compute as chosen with:
    input:
        choice=L.choice("{experiment}"),
        data=lambda w: FILES.data(w.experiment),
        weights=lambda w: FILES.of_checkpoints("probed_weights", w.experiment),
    output:
        store=L.chosen("{experiment}"),
        receipt=store_receipt(L.chosen("{experiment}")),
    log:
        L.log("chosen", "{experiment}"),
    benchmark:
        L.benchmark("chosen", "{experiment}")
    params:
        config=of_experiment(lambda e, _: probe_job_arguments.chosen(e)),
        call=call("chosen", batch=lambda w: experiment(w).probe.batch),


# Features of another dataset by the chosen model, and of a dataset by an extractor.


use rule chosen as transferred with:
    input:
        choice=L.choice("{experiment}"),
        data=lambda w: FILES.transferred_data(w.experiment, w.dataset),
        latents=lambda w: FILES.latents(w.experiment),
        weights=lambda w: FILES.of_checkpoints("probed_weights", w.experiment),
    output:
        store=L.transferred("{experiment}", "{dataset}"),
        receipt=store_receipt(L.transferred("{experiment}", "{dataset}")),
    log:
        L.log("transferred", "{experiment}", "{dataset}"),
    benchmark:
        L.benchmark("transferred", "{experiment}", "{dataset}")


use rule compute as extracted with:
    input:
        images=L.images("{dataset}"),
        weights=lambda w: FILES.extractor_weights(w.extractor),
    output:
        store=L.extracted("{dataset}", "{extractor}"),
        receipt=store_receipt(L.extracted("{dataset}", "{extractor}")),
    log:
        L.log("extracted", "{dataset}", "{extractor}"),
    benchmark:
        L.benchmark("extracted", "{dataset}", "{extractor}")
    params:
        config=argument(lambda w: probe_job_arguments.extracted(CONFIG, w.extractor)),
        call=call("extracted", batch=CONFIG.metrics.batch),
