# Plots, tables and their captions in the report. They read results and change none.


rule plot_samples:
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
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=canonical(REPORT),
    shell:
        "job plot {params.config:q} --in samples={input.samples:q} --out plot={output.plot:q}"
        " --log {log:q} --name plot_samples.{wildcards.experiment}.{wildcards.kimg}"


rule plot_strip:
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
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=canonical(REPORT),
    shell:
        "job plot {params.config:q} --in strip={input.strip:q} --out plot={output.plot:q}"
        " --log {log:q} --name plot_strip.{wildcards.experiment}.{wildcards.kimg}"


rule plot_nearest:
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
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=canonical(REPORT),
    shell:
        "job plot {params.config:q} --in pairs={input.pairs:q} --out plot={output.plot:q}"
        " --log {log:q} --name plot_nearest.{wildcards.experiment}.{wildcards.kimg}"


rule plot_grid:
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
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=of_experiment(lambda e, w: REPORT | {"kimg": int(w.kimg), "taps": e.probed_taps}),
    shell:
        "job plot {params.config:q} --in grid={input.grid:q} select={input.select:q}"
        " --out plot={output.plot:q} --log {log:q} --name plot_grid.{wildcards.experiment}.{wildcards.kimg}"


rule plot_confusion:
    input:
        rows=lambda wildcards: L.test(wildcards.experiment, job_arguments.scorer(experiment(wildcards))),
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
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=of_experiment(lambda e, w: REPORT | {"experiment": w.experiment, "evaluator": job_arguments.scorer(e)}),
    shell:
        "job plot {params.config:q} --in rows={input.rows:q} --out plot={output.plot:q}"
        " --log {log:q} --name plot_confusion.{wildcards.experiment}"


rule plot_losses:
    input:
        stats=lambda wildcards: [
            L.checkpoint(L.run(wildcards.experiment), k, "stats.jsonl")
            for k in experiment(wildcards).train.checkpoints
        ],
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
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=of_experiment(lambda e, w: REPORT | {"experiment": w.experiment}),
        stats=lambda wildcards, input: numbered("stats", input.stats),
    shell:
        "job plot {params.config:q} --in {params.stats} --out plot={output.plot:q}"
        " --log {log:q} --name plot_losses.{wildcards.experiment}"


rule plot_curves:
    input:
        generation=every_generation,
        select=every_select,
        choice=every_choice,
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
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=of_experiment(lambda e, w: REPORT | {"experiment": w.experiment}),
        results=lambda wildcards, input: numbered("results", [*input.generation, *input.select]),
        choice=optional("choice"),
    shell:
        "job plot {params.config:q} --in {params.results} {params.choice}"
        " --out plot={output.plot:q} --log {log:q} --name plot_curves.{wildcards.experiment}"


rule plot_reconstruction:
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
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=canonical(REPORT),
    shell:
        "job plot {params.config:q} --in pairs={input.pairs:q} --out plot={output.plot:q}"
        " --log {log:q} --name plot_reconstruction.{wildcards.latents}"


rule summary:
    input:
        **SUMMARISED,
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
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=canonical(job_arguments.summary(CONFIG)),
        results=lambda wildcards, input: numbered("results", input.results),
        choices=lambda wildcards, input: numbered("choice", input.choice),
    shell:
        "job summary {params.config:q} --in {params.results} {params.choices}"
        " --out summary={output.summary:q} table={output.table:q} best={output.best:q} --log {log:q}"
