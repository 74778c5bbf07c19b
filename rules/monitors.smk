# What needs no labels: features of a fixed subset of images at every checkpoint, figures of them, maps of similarity;
# pictures of the chosen features.


use rule features as subset with:
    input:
        weights=lambda w: FILES.probed_weights(w.experiment, w.kimg),
        data=lambda w: FILES.data(w.experiment),
        grid=lambda w: FILES.subset_cells(w.experiment, w.kimg),
    output:
        store=KEEP(directory(L.subset("{experiment}", "{kimg}"))),
        receipt=receipt(L.subset("{experiment}", "{kimg}")),
    log:
        L.log("subset", "{experiment}", "{kimg}"),
    benchmark:
        L.benchmark("subset", "{experiment}", "{kimg}")
    params:
        config=of_experiment(lambda e, _: probe_job_arguments.subset(e), "experiment"),
        call=call("features", batch=lambda w: experiment(w).probe.batch),


use rule compute as foreign with:
    input:
        images=L.images("{dataset}"),
        weights=lambda w: FILES.extractor_weights(w.extractor),
    output:
        features=L.foreign("{dataset}", "{extractor}", "{subset}"),
        receipt=receipt(L.foreign("{dataset}", "{extractor}", "{subset}")),
    log:
        L.log("foreign", "{dataset}", "{extractor}", "{subset}"),
    benchmark:
        L.benchmark("foreign", "{dataset}", "{extractor}", "{subset}")
    resources:
        **computing(mem_mb=6000),
    params:
        config=argument(lambda w: probe_job_arguments.foreign(CONFIG, w.extractor, w.subset)),
        call=call("foreign", **MEASURING),


use rule compute as monitors with:
    input:
        unpack(lambda w: FILES.monitored(w.experiment)),
        store=L.subset("{experiment}", "{kimg}"),
        select=L.select("{experiment}", "{kimg}"),
    output:
        monitors=L.monitors("{experiment}", "{kimg}"),
        rows=L.monitor_rows("{experiment}", "{kimg}"),
        receipt=receipt(L.monitors("{experiment}", "{kimg}")),
    log:
        L.log("monitors", "{experiment}", "{kimg}"),
    benchmark:
        L.benchmark("monitors", "{experiment}", "{kimg}")
    params:
        config=of_experiment(lambda e, w: probe_job_arguments.monitors(e, row(w))),
        call=call("monitors", **AUTOSAVE),


use rule compute as similarity with:
    input:
        unpack(lambda w: FILES.compared_with(w.experiment)),
        choice=L.choice("{experiment}"),
        store=lambda w: FILES.subsets(w.experiment),
    output:
        similarity=L.similarity("{experiment}"),
        receipt=receipt(L.similarity("{experiment}")),
    log:
        L.log("similarity", "{experiment}"),
    benchmark:
        L.benchmark("similarity", "{experiment}")
    resources:
        **computing(mem_mb=probing_memory),
    params:
        config=argument(lambda w: probe_job_arguments.similarity(CONFIG, w.experiment)),
        call=call("similarity", **AUTOSAVE),


use rule compute as pictures with:
    input:
        store=L.chosen("{experiment}"),
        data=lambda w: FILES.data(w.experiment),
        images=lambda w: FILES.images(w.experiment),
        weights=lambda w: FILES.of_checkpoints("probed_weights", w.experiment),
    output:
        pictures=L.feature_pictures("{experiment}"),
        receipt=receipt(L.feature_pictures("{experiment}")),
    log:
        L.log("pictures", "{experiment}"),
    benchmark:
        L.benchmark("pictures", "{experiment}")
    params:
        config=of_experiment(lambda e, _: probe_job_arguments.pictures(e)),
        call=call("pictures", batch=lambda w: experiment(w).probe.batch),
