# Images of each dataset in one store, with their splits.


rule images:
    output:
        images=L.images("{dataset}"),
        receipt=receipt(L.images("{dataset}")),
    log:
        L.log("images", "{dataset}"),
    benchmark:
        L.benchmark("images", "{dataset}")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        config=lambda wildcards: canonical(subtrees.dump(CONFIG.datasets[wildcards.dataset])),
    shell:
        "job images {params.config:q} --out images={output.images:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads} --name images.{wildcards.dataset}"


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
        mem_mb=2000,
        runtime=60,
    params:
        config=lambda wildcards: canonical({"dataset": wildcards.dataset}),
    shell:
        "job baseline {params.config:q} --in images={input.images:q}"
        " --out rows={output.rows:q} receipt={output.receipt:q}"
        " --log {log:q} --threads {threads} --name baseline.{wildcards.dataset}"
