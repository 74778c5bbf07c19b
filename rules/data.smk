# Remote files and downloads, and one store of images and splits per dataset.


# Only for files that are not there: those that are there need nobody to be asked, on any network, whether they are right.
use rule handle as fetch with:
    input:
        arrived=lambda w: arriving(REMOTE[L.fetched(w.sha256, w.name)]),
    output:
        file=L.fetched("{sha256}", "{name}"),
        receipt=receipt(L.fetched("{sha256}", "{name}")),
    log:
        L.log("fetch", "{sha256}", "{name}"),
    benchmark:
        L.benchmark("fetch", "{sha256}", "{name}")
    wildcard_constraints:
        sha256=any_of({remote.sha256 for remote in AWAITED}),
        name=any_of({remote.name for remote in AWAITED}),
    resources:
        **handling(mem_mb=500, minutes=720),
    params:
        config=argument(lambda w: {"sha256": w.sha256}),
        call=call("fetch", address=lambda w: REMOTE[L.fetched(w.sha256, w.name)].shown),


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
        fetched=lambda w: FILES.fetched(w.dataset),
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
        config=argument(lambda w: SOURCES.images_argument(w.dataset)),
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
        call=call("baseline", **AUTOSAVE),
