# Samples of each checkpoint and sampler: stored and then measured, or measured while they are drawn.


use rule compute as sample with:
    input:
        weights=lambda w: FILES.drawing_weights(w.experiment, w.kimg, w.sampler),
        autoencoder=lambda w: FILES.autoencoder(w.experiment),
        images=lambda w: FILES.coded_images(w.experiment),
    output:
        samples=L.samples("{experiment}", "{kimg}", "{sampler}"),
        strip=L.strip("{experiment}", "{kimg}", "{sampler}"),
        receipt=store_receipt(L.samples("{experiment}", "{kimg}", "{sampler}")),
    log:
        L.log("sample", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("sample", "{experiment}", "{kimg}", "{sampler}")
    wildcard_constraints:
        experiment=any_of(set(CONFIG.experiments) - AT_ONCE),
    resources:
        **computing(minutes=720),
    params:
        config=of_experiment(lambda e, w: job_arguments.sample(e, w.sampler), "experiment", "sampler"),
        call=call("sample", draw=lambda w: experiment(w).sample.batch),


use rule compute as generate with:
    input:
        unpack(lambda w: FILES.measuring(w.experiment)),
        weights=lambda w: FILES.drawing_weights(w.experiment, w.kimg, w.sampler),
        autoencoder=lambda w: FILES.autoencoder(w.experiment),
        images=lambda w: FILES.coded_images(w.experiment),
    output:
        rows=L.generation("{experiment}", "{kimg}", "{sampler}"),
        receipt=receipt(L.generation("{experiment}", "{kimg}", "{sampler}")),
        samples=L.samples("{experiment}", "{kimg}", "{sampler}"),
        samples_receipt=store_receipt(L.samples("{experiment}", "{kimg}", "{sampler}")),
        strip=L.strip("{experiment}", "{kimg}", "{sampler}"),
    log:
        L.log("generate", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("generate", "{experiment}", "{kimg}", "{sampler}")
    wildcard_constraints:
        experiment=any_of(AT_ONCE),
    resources:
        **computing(mem_mb=6000, minutes=720),
    params:
        config=of_experiment(lambda e, w: job_arguments.generate(CONFIG, e, w.sampler, row(w))),
        measuring=reference_files,
        call=call("generate", draw=lambda w: experiment(w).sample.batch, **MEASURING),


# On request, as a target: snakemake results/runs/EXPERIMENT/samples/KIMG/SAMPLER.npz (or .png).


use rule handle as samples_npz with:
    input:
        samples=L.samples("{experiment}", "{kimg}", "{sampler}"),
    output:
        npz=L.samples_npz("{experiment}", "{kimg}", "{sampler}"),
    log:
        L.log("samples_npz", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("samples_npz", "{experiment}", "{kimg}", "{sampler}")
    resources:
        **handling(minutes=60),
    params:
        config=no_argument,
        call=call("export"),


use rule samples_npz as samples_png with:
    output:
        png=directory(L.samples_png("{experiment}", "{kimg}", "{sampler}")),
    log:
        L.log("samples_png", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("samples_png", "{experiment}", "{kimg}", "{sampler}")
    resources:
        **handling(minutes=240),
