# Images of each dataset in one store, with their splits.


rule download:
    output:
        archives=L.archives("{archives}"),
        receipt=receipt(L.archives("{archives}")),
    log:
        L.log("download", "{archives}"),
    benchmark:
        L.benchmark("download", "{archives}")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=500,
        runtime=240,
        mirror=lambda wildcards: mirror(wildcards) or "",
    params:
        config=params_of(lambda w: {"kind": w.archives}),
    shell:
        "job download {params.config:q} --out archives={output.archives:q} receipt={output.receipt:q}"
        " --with mirror={resources.mirror:q} --log {log:q} --name download.{wildcards.archives}"


rule images:
    input:
        archives=archives,
    output:
        images=L.images("{dataset}"),
        receipt=receipt(L.images("{dataset}")),
    log:
        L.log("images", "{dataset}"),
    benchmark:
        L.benchmark("images", "{dataset}")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.decode
    resources:
        mem_mb=4000,
        runtime=720,
        asking=lambda wildcards: ",".join(keys_that_need_labels(CONFIG, wildcards.dataset)),
    params:
        config=params_of(lambda w: job_arguments.images(CONFIG.datasets[w.dataset], source_state(w.dataset))),
        archives=optional("archives"),
    shell:
        "job images {params.config:q} --in {params.archives} --out images={output.images:q} receipt={output.receipt:q}"
        " --with dataset={wildcards.dataset} asking={resources.asking:q} --log {log:q} --threads {threads} --name images.{wildcards.dataset}"


rule baseline:
    input:
        images=L.images("{dataset}"),
    output:
        rows=L.baseline("{dataset}"),
        receipt=receipt(L.baseline("{dataset}")),
    log:
        L.log("baseline", "{dataset}"),
    benchmark:
        L.benchmark("baseline", "{dataset}")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=gpu,
        mem_mb=4000,
        runtime=60,
    params:
        config=lambda wildcards: canonical({"dataset": wildcards.dataset}),
    shell:
        "job baseline {params.config:q} --in images={input.images:q}"
        " --out rows={output.rows:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads} --name baseline.{wildcards.dataset}"
