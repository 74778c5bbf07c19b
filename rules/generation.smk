# Quality of samples: reference statistics once per dataset and extractor, the metrics of each checkpoint, and a check
# for memorisation by nearest training images; of a model with an encoder, decodings of test images.


use rule compute as reference with:
    input:
        images=L.images("{dataset}"),
        weights=lambda w: FILES.extractor_weights(w.extractor),
        foreign=lambda w: FILES.foreign_reference(w.dataset, w.extractor),
    output:
        reference=L.reference("{dataset}", "{extractor}"),
        receipt=receipt(L.reference("{dataset}", "{extractor}")),
    log:
        L.log("reference", "{dataset}", "{extractor}"),
    benchmark:
        L.benchmark("reference", "{dataset}", "{extractor}")
    resources:
        **computing(mem_mb=6000, minutes=720),
    params:
        config=argument(lambda w: job_arguments.reference(CONFIG, w.extractor)),
        call=call("reference", kept=moved(CONFIG.metrics.references), **MEASURING),


use rule compute as generation with:
    input:
        unpack(lambda w: FILES.measuring(w.experiment)),
        samples=L.samples("{experiment}", "{kimg}", "{sampler}"),
    output:
        rows=L.generation("{experiment}", "{kimg}", "{sampler}"),
        receipt=receipt(L.generation("{experiment}", "{kimg}", "{sampler}")),
    log:
        L.log("generation", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("generation", "{experiment}", "{kimg}", "{sampler}")
    wildcard_constraints:
        experiment=any_of(set(CONFIG.experiments) - AT_ONCE),
    resources:
        **computing(mem_mb=6000, minutes=720),
    params:
        config=of_experiment(lambda e, w: job_arguments.generation(CONFIG, e, row(w))),
        measuring=reference_files,
        call=call("generation", **MEASURING),


use rule compute as nearest with:
    input:
        samples=L.samples("{experiment}", "{kimg}", "{sampler}"),
        images=lambda w: FILES.images(w.experiment),
    output:
        rows=L.nearest("{experiment}", "{kimg}", "{sampler}"),
        pairs=L.nearest_pairs("{experiment}", "{kimg}", "{sampler}"),
        receipt=receipt(L.nearest("{experiment}", "{kimg}", "{sampler}")),
    log:
        L.log("nearest", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("nearest", "{experiment}", "{kimg}", "{sampler}")
    params:
        config=of_experiment(lambda e, w: job_arguments.nearest(e.generation.nearest, row(w), e.train)),
        call=call("nearest", **AUTOSAVE),


use rule compute as decodings with:
    input:
        weights=lambda w: FILES.drawing_weights(w.experiment, w.kimg, w.sampler),
        images=lambda w: FILES.images(w.experiment),
    output:
        rows=L.decodings("{experiment}", "{kimg}", "{sampler}"),
        pictures=L.decodings_pictures("{experiment}", "{kimg}", "{sampler}"),
        receipt=receipt(L.decodings("{experiment}", "{kimg}", "{sampler}")),
    log:
        L.log("decodings", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("decodings", "{experiment}", "{kimg}", "{sampler}")
    params:
        config=of_experiment(lambda e, w: job_arguments.decodings(e, w.sampler, row(w))),
        call=call("decodings", draw=lambda w: experiment(w).sample.batch, **AUTOSAVE),


use rule compute as nearest_real with:
    input:
        images=L.images("{dataset}"),
    output:
        rows=L.nearest_real("{dataset}"),
        receipt=receipt(L.nearest_real("{dataset}")),
    log:
        L.log("nearest_real", "{dataset}"),
    benchmark:
        L.benchmark("nearest_real", "{dataset}")
    params:
        config=argument(lambda w: job_arguments.nearest(FILES.compared(w.dataset), {"dataset": w.dataset})),
        call=call("nearest", **AUTOSAVE),
