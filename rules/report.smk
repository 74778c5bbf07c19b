# Plots and tables of the report. They only read results. The tables are results.csv,
# summary.csv and best.csv (rule summary).

REPORT = job_arguments.dump(CONFIG.report)


use rule handle as dataset_table with:
    input:
        images=receipt(L.images("{dataset}")),
    output:
        table=report(
            L.dataset_table("{dataset}"),
            caption="../workflow/report/dataset.rst",
            category="datasets",
            labels={"table": "{dataset}"},
        ),
    log:
        L.log("dataset_table", "{dataset}"),
    benchmark:
        L.benchmark("dataset_table", "{dataset}")
    params:
        call=call("dataset_table"),


use rule handle as plot_samples with:
    input:
        samples=L.samples("{experiment}", "{kimg}", "{sampler}"),
    output:
        plot=report(
            L.plot("{experiment}", "samples/{kimg}.{sampler}"),
            caption="../workflow/report/samples.rst",
            category="{experiment}",
            subcategory="samples",
            labels={"figure": "samples", "kimg": "{kimg}", "sampler": "{sampler}"},
        ),
    log:
        L.log("plot_samples", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("plot_samples", "{experiment}", "{kimg}", "{sampler}")
    params:
        config=canonical(REPORT),
        call=call("plot"),


use rule handle as plot_strip with:
    input:
        strip=L.strip("{experiment}", "{kimg}", "{sampler}"),
    output:
        plot=report(
            L.plot("{experiment}", "strip/{kimg}.{sampler}"),
            caption="../workflow/report/strip.rst",
            category="{experiment}",
            subcategory="samples",
            labels={"figure": "denoising", "kimg": "{kimg}", "sampler": "{sampler}"},
        ),
    log:
        L.log("plot_strip", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("plot_strip", "{experiment}", "{kimg}", "{sampler}")
    params:
        config=canonical(REPORT),
        call=call("plot"),


use rule handle as plot_nearest with:
    input:
        pairs=L.nearest_pairs("{experiment}", "{kimg}", "{sampler}"),
    output:
        plot=report(
            L.plot("{experiment}", "nearest/{kimg}.{sampler}"),
            caption="../workflow/report/nearest.rst",
            category="{experiment}",
            subcategory="samples",
            labels={"figure": "nearest training images", "kimg": "{kimg}", "sampler": "{sampler}"},
        ),
    log:
        L.log("plot_nearest", "{experiment}", "{kimg}", "{sampler}"),
    benchmark:
        L.benchmark("plot_nearest", "{experiment}", "{kimg}", "{sampler}")
    params:
        config=canonical(REPORT),
        call=call("plot"),


use rule handle as plot_grid with:
    input:
        grid=L.grid("{experiment}", "{kimg}"),
        select=L.select("{experiment}", "{kimg}"),
    output:
        plot=report(
            L.plot("{experiment}", "grid/{kimg}"),
            caption="../workflow/report/grid.rst",
            category="{experiment}",
            subcategory="layer x noise",
            labels={"figure": "layer x noise", "kimg": "{kimg}", "sampler": ""},
        ),
    log:
        L.log("plot_grid", "{experiment}", "{kimg}"),
    benchmark:
        L.benchmark("plot_grid", "{experiment}", "{kimg}")
    params:
        config=of_experiment(lambda e, w: REPORT | {"kimg": int(w.kimg), "taps": e.probed_taps}),
        call=call("plot"),


use rule handle as plot_confusion with:
    input:
        rows=lambda w: L.test(w.experiment, job_arguments.scorer(experiment(w))),
    output:
        plot=report(
            L.plot("{experiment}", "confusion"),
            caption="../workflow/report/confusion.rst",
            category="{experiment}",
            subcategory="layer x noise",
            labels={"figure": "confusion on test", "kimg": "", "sampler": ""},
        ),
    log:
        L.log("plot_confusion", "{experiment}"),
    benchmark:
        L.benchmark("plot_confusion", "{experiment}")
    params:
        config=of_experiment(lambda e, w: REPORT | {"experiment": w.experiment, "evaluator": job_arguments.scorer(e)}),
        call=call("plot"),


use rule handle as plot_losses with:
    input:
        stats=lambda w: FILES.of_checkpoints("stats", w.experiment),
    output:
        plot=report(
            L.plot("{experiment}", "losses"),
            caption="../workflow/report/losses.rst",
            category="{experiment}",
            subcategory="training",
            labels={"figure": "loss", "kimg": "all", "sampler": ""},
        ),
    log:
        L.log("plot_losses", "{experiment}"),
    benchmark:
        L.benchmark("plot_losses", "{experiment}")
    params:
        config=of_experiment(lambda e, w: REPORT | {"experiment": w.experiment}),
        call=call("plot"),


use rule handle as plot_curves with:
    input:
        unpack(lambda w: FILES.curves(w.experiment)),
    output:
        plot=report(
            L.plot("{experiment}", "curves"),
            caption="../workflow/report/curves.rst",
            category="{experiment}",
            subcategory="generation and representation",
            labels={"figure": "distance and accuracy", "kimg": "all", "sampler": ""},
        ),
    log:
        L.log("plot_curves", "{experiment}"),
    benchmark:
        L.benchmark("plot_curves", "{experiment}")
    params:
        config=of_experiment(lambda e, w: REPORT | {"experiment": w.experiment}),
        call=call("plot"),


use rule handle as plot_reconstruction with:
    input:
        pairs=L.pairs("{latents}"),
    output:
        plot=report(
            L.latents_plot("{latents}"),
            caption="../workflow/report/reconstruction.rst",
            category="latents",
            labels={"figure": "reconstructions", "latents": "{latents}"},
        ),
    log:
        L.log("plot_reconstruction", "{latents}"),
    benchmark:
        L.benchmark("plot_reconstruction", "{latents}")
    params:
        config=canonical(REPORT),
        call=call("plot"),


use rule handle as summary with:
    input:
        **FILES.summary,
    output:
        summary=report(
            L.summary(),
            caption="../workflow/report/summary.rst",
            category="results",
            labels={"table": "every figure"},
        ),
        table=report(
            L.results_table(),
            caption="../workflow/report/results.rst",
            category="results",
            labels={"table": "results"},
        ),
        best=report(
            L.best_table(),
            caption="../workflow/report/best.rst",
            category="results",
            labels={"table": "best distance, best probe"},
        ),
    log:
        L.log("summary"),
    benchmark:
        L.benchmark("summary")
    params:
        config=canonical(job_arguments.summary(CONFIG)),
        call=call("summary"),
