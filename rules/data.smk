# Downloads, and one store of images and splits per dataset.


use rule handle as download with:
    output:
        archives=L.archives("{archives}"),
        receipt=receipt(L.archives("{archives}")),
    log:
        L.log("download", "{archives}"),
    benchmark:
        L.benchmark("download", "{archives}")
    resources:
        **handling(mem_mb=500, minutes=240),
    params:
        config=argument(lambda w: {"kind": w.archives}),
        call=call("download", mirror=lambda w: FILES.mirror(w.archives)),


use rule handle as images with:
    input:
        archives=lambda w: FILES.archives(w.dataset),
    output:
        images=L.images("{dataset}"),
        receipt=receipt(L.images("{dataset}")),
    log:
        L.log("images", "{dataset}"),
    benchmark:
        L.benchmark("images", "{dataset}")
    threads: CONFIG.threads.decode
    resources:
        **handling(mem_mb=4000, minutes=720),
    params:
        config=argument(lambda w: job_arguments.images(CONFIG.datasets[w.dataset], SOURCES.images(w.dataset))),
        call=call(
            "images",
            dataset=lambda w: w.dataset,
            needing_labels=lambda w: ",".join(keys_that_need_labels(CONFIG, w.dataset)),
        ),


use rule compute as baseline with:
    input:
        images=L.images("{dataset}"),
    output:
        rows=L.baseline("{dataset}"),
        receipt=receipt(L.baseline("{dataset}")),
    log:
        L.log("baseline", "{dataset}"),
    benchmark:
        L.benchmark("baseline", "{dataset}")
    resources:
        **computing(minutes=60),
    params:
        config=argument(lambda w: {"dataset": w.dataset}),
        call=call("baseline", autosave=CONFIG.state.autosave_seconds),
