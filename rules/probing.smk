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
        config=of_experiment(lambda e, w: job_arguments.grid(e, row(w))),
        call=call("grid"),


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
    resources:
        **computing(mem_mb=probing_memory, minutes=120),
    params:
        config=of_experiment(lambda e, w: job_arguments.evaluate(e, w.evaluator, row(w))),
        call=call("evaluate"),
