# What a model has learned: a grid per checkpoint on `select`, the choice among all grids, and `test`, read once.


use rule compute as grid with:
    input:
        store=lambda w: FILES.feature_stores(w.experiment, w.kimg),
        images=lambda w: FILES.images(w.experiment),
    output:
        grid=L.grid("{experiment}", "{kimg}"),
        select=L.select("{experiment}", "{kimg}"),
        receipt=receipt(L.grid("{experiment}", "{kimg}")),
    log:
        L.log("grid", "{experiment}", "{kimg}"),
    benchmark:
        L.benchmark("grid", "{experiment}", "{kimg}")
    resources:
        **computing(mem_mb=probing_memory, minutes=120),
    params:
        config=of_experiment(lambda e, w: probe_job_arguments.grid(e, row(w))),
        call=call("grid", **AUTOSAVE),


use rule handle as choice with:
    input:
        select=lambda w: FILES.of_checkpoints("select", w.experiment),
    output:
        choice=L.choice("{experiment}"),
        receipt=receipt(L.choice("{experiment}")),
    log:
        L.log("choice", "{experiment}"),
    benchmark:
        L.benchmark("choice", "{experiment}")
    resources:
        **handling(mem_mb=500),
    params:
        config=no_argument,
        call=call("choice"),


use rule compute as evaluate with:
    input:
        choice=L.choice("{experiment}"),
        store=L.chosen("{experiment}"),
        images=lambda w: FILES.images(w.experiment),
    output:
        rows=L.test("{experiment}", "{evaluator}"),
        receipt=receipt(L.test("{experiment}", "{evaluator}")),
    log:
        L.log("evaluate", "{experiment}", "{evaluator}"),
    benchmark:
        L.benchmark("evaluate", "{experiment}", "{evaluator}")
    wildcard_constraints:
        evaluator=any_of(named_evaluators("evaluate")),
    resources:
        **computing(mem_mb=probing_memory, minutes=120),
    params:
        config=of_experiment(lambda e, w: probe_job_arguments.evaluate(e, w.evaluator, row(w))),
        call=call("evaluate", **AUTOSAVE),


# Segmentation from a few labelled images, on features that are computed here.


use rule compute as dense with:
    input:
        choice=L.choice("{experiment}"),
        images=lambda w: FILES.images(w.experiment),
        data=lambda w: FILES.data(w.experiment),
        weights=lambda w: FILES.of_checkpoints("probed_weights", w.experiment),
    output:
        rows=L.test("{experiment}", "{evaluator}"),
        pictures=L.pictures("{experiment}", "{evaluator}"),
        receipt=receipt(L.test("{experiment}", "{evaluator}")),
    log:
        L.log("dense", "{experiment}", "{evaluator}"),
    benchmark:
        L.benchmark("dense", "{experiment}", "{evaluator}")
    wildcard_constraints:
        evaluator=any_of(named_evaluators("dense")),
    resources:
        **computing(mem_mb=probing_memory),
    params:
        config=of_experiment(lambda e, w: probe_job_arguments.dense(e, w.evaluator, row(w))),
        call=call("dense", batch=lambda w: experiment(w).probe.batch, **AUTOSAVE),


# The same evaluators on another dataset's features, and on those of an extractor.


use rule evaluate as transfer with:
    input:
        store=L.transferred("{experiment}", "{dataset}"),
        images=L.images("{dataset}"),
    output:
        rows=L.transfer("{experiment}", "{dataset}", "{evaluator}"),
        receipt=receipt(L.transfer("{experiment}", "{dataset}", "{evaluator}")),
    log:
        L.log("transfer", "{experiment}", "{dataset}", "{evaluator}"),
    benchmark:
        L.benchmark("transfer", "{experiment}", "{dataset}", "{evaluator}")
    params:
        config=of_experiment(lambda e, w: probe_job_arguments.transfer(e, w.dataset, w.evaluator, row(w))),
        call=call("evaluate", **AUTOSAVE),


use rule evaluate as extractor_probe with:
    input:
        store=lambda w: L.extracted(experiment(w).dataset, w.extractor),
        images=lambda w: FILES.images(w.experiment),
    output:
        rows=L.extractor_probe("{experiment}", "{extractor}", "{evaluator}"),
        receipt=receipt(L.extractor_probe("{experiment}", "{extractor}", "{evaluator}")),
    log:
        L.log("extractor_probe", "{experiment}", "{extractor}", "{evaluator}"),
    benchmark:
        L.benchmark("extractor_probe", "{experiment}", "{extractor}", "{evaluator}")
    params:
        config=of_experiment(
            lambda e, w: probe_job_arguments.extractor_probe(CONFIG, e, w.extractor, w.evaluator, row(w))
        ),
        call=call("evaluate", **AUTOSAVE),
