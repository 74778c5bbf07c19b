# Plots and tables of the report. They only read results. The tables are results.csv,
# summary.csv, best.csv and, where experiments repeat each other, repeats.csv (rule summary).


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


for number, names in enumerate(alike(CONFIG)):
    FIGURES = list(figures(L, "{experiment}", CONFIG.experiments[names[0]]))

    rule:
        name:
            figure_rule(number)
        input:
            **{name: file for figure in FIGURES for name, file in figure.inputs},
            receipts=lambda w: FILES.receipts(w.experiment),
        output:
            **{figure.name: listed(figure) for figure in FIGURES},
            **{f"data/{figure.name}": L.plot_data("{experiment}", figure.name) for figure in FIGURES if figure.has_data},
            page=report(
                L.page("{experiment}"),
                caption="../workflow/report/page.rst",
                category="{experiment}",
                subcategory="all figures",
                labels={"figure": "all on one page", "kimg": "", "sampler": ""},
            ),
        log:
            L.log("plots", "{experiment}"),
        benchmark:
            L.benchmark("plots", "{experiment}")
        wildcard_constraints:
            experiment=any_of(names),
        conda:
            str(ROOT / "envs" / "cuda.yaml")
        threads: 1
        resources:
            **handling(minutes=60),
        params:
            config=of_experiment(lambda e, w: job_arguments.plots(CONFIG, e, w.experiment)),
            call=call("plot"),
        shell:
            JOB


use rule handle as plot_reconstruction with:
    input:
        pairs=L.pairs("{latents}"),
    output:
        reconstruction=report(
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
        config=canonical(job_arguments.dump(CONFIG.report)),
        call=call("plot"),


use rule handle as plot_levels with:
    input:
        rows=lambda w: FILES.by_level(w.dataset),
    output:
        **{"data/levels": L.levels_data("{dataset}")},
        levels=report(
            L.levels_plot("{dataset}"),
            caption="../workflow/report/levels.rst",
            category="datasets",
            labels={"table": "{dataset}: accuracy over noise"},
        ),
    log:
        L.log("plot_levels", "{dataset}"),
    benchmark:
        L.benchmark("plot_levels", "{dataset}")
    params:
        config=canonical(job_arguments.dump(CONFIG.report)),
        call=call("plot"),


REPEATS = (
    {
        "repeats": report(
            L.repeats_table(),
            caption="../workflow/report/repeats.rst",
            category="results",
            labels={"table": "over seeds"},
        )
    }
    if repeats(CONFIG)
    else {}
)


use rule handle as summary with:
    input:
        **FILES.summary,
    output:
        **REPEATS,
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


OVERVIEW = L.overview()


# Snakemake's report opens on this page: workflow/report/workflow.rst takes it up.
use rule handle as overview with:
    input:
        **FILES.overview,
    output:
        **({name: OVERVIEW[name] for name in ("plot", "data")} if parted(CONFIG) else {}),
        page=report(OVERVIEW["page"], category="results", labels={"table": "overview"}),
    log:
        L.log("overview"),
    benchmark:
        L.benchmark("overview")
    params:
        config=canonical(job_arguments.overview(CONFIG)),
        call=call("overview"),


# What is compared of the experiments on a dataset: all files but the data of the plot are in the report.
COMPARED = {"plot": "experiments compared", "experiments": "preferences", "evaluators": "best of each evaluator"}


use rule handle as comparison with:
    input:
        unpack(lambda w: FILES.comparison(w.dataset)),
    output:
        **{
            name: (
                report(
                    file,
                    caption=f"../workflow/report/comparison_{name}.rst",
                    category="results",
                    labels={"table": f"{{dataset}}: {COMPARED[name]}"},
                )
                if name in COMPARED
                else file
            )
            for name, file in L.comparison("{dataset}").items()
        },
    log:
        L.log("comparison", "{dataset}"),
    benchmark:
        L.benchmark("comparison", "{dataset}")
    params:
        config=argument(lambda w: job_arguments.comparison(CONFIG, w.dataset)),
        call=call("comparison"),
