# Stores of latents: images encoded by an autoencoder (trained in training.smk, or published), or imported latents.


use rule handle as pretrained with:
    output:
        weights=L.autoencoder_weights("{autoencoder}", PRETRAINED),
        receipt=L.checkpoint(L.autoencoder("{autoencoder}"), PRETRAINED, "receipt.json"),
    log:
        L.log("pretrained", "{autoencoder}"),
    benchmark:
        L.benchmark("pretrained", "{autoencoder}")
    priority: 30
    resources:
        **handling(mem_mb=4000, minutes=60),
    params:
        config=argument(lambda w: SOURCES.pretrained_argument(w.autoencoder)),
        call=call("pretrained", name=lambda w: w.autoencoder),


use rule compute as encode with:
    input:
        images=lambda w: FILES.latents_images(w.latents),
        autoencoder=lambda w: FILES.latents_autoencoder(w.latents),
    output:
        encoded=L.encoded("{latents}", "{job}"),
        receipt=receipt(L.encoded("{latents}", "{job}")),
    log:
        L.log("encode", "{latents}", "{job}"),
    benchmark:
        L.benchmark("encode", "{latents}", "{job}")
    priority: 30  # training waits for it
    resources:
        **computing(minutes=720),
    params:
        config=argument(lambda w: job_arguments.encode(CONFIG, w.latents)),
        store=lambda w: Path(moved(L.latents(w.latents))).parent,
        call=call(
            "encode",
            share=lambda w: f"{w.job}/{CONFIG.latents[w.latents].jobs}",
            batch=lambda w: CONFIG.latents[w.latents].batch,
            store=lambda w: Path(moved(L.latents(w.latents))).parent,
        ),


use rule handle as latents with:
    input:
        images=lambda w: FILES.latents_images(w.latents),
        autoencoder=lambda w: FILES.latents_autoencoder(w.latents),
        encoded=lambda w: FILES.encoded(w.latents),
    output:
        store=L.latents("{latents}"),
        receipt=store_receipt(L.latents("{latents}")),
    log:
        L.log("latents", "{latents}"),
    benchmark:
        L.benchmark("latents", "{latents}")
    wildcard_constraints:
        latents=any_of(set(CONFIG.latents) - FOREIGN),
    priority: 30
    resources:
        **handling(mem_mb=2000, minutes=120),
    params:
        config=argument(lambda w: job_arguments.finish(CONFIG, w.latents)),
        call=call("latents"),


use rule handle as import_latents with:
    input:
        images=lambda w: FILES.latents_images(w.latents),
        autoencoder=lambda w: FILES.latents_autoencoder(w.latents),
    output:
        store=L.latents("{latents}"),
        receipt=store_receipt(L.latents("{latents}")),
    log:
        L.log("import_latents", "{latents}"),
    benchmark:
        L.benchmark("import_latents", "{latents}")
    wildcard_constraints:
        latents=any_of(FOREIGN),
    resources:
        **handling(mem_mb=4000, minutes=720),
    params:
        config=argument(lambda w: SOURCES.latents_argument(w.latents)),
        # Paths are options, since only the content of the files (`state`) changes the result.
        call=call(
            "import_latents",
            folder=lambda w: CONFIG.latents[w.latents].imported.path,
            test=lambda w: CONFIG.latents[w.latents].imported.test,
        ),


use rule compute as reconstruct with:
    input:
        unpack(lambda w: FILES.reconstructing(w.latents)),
        images=lambda w: FILES.latents_images(w.latents),
        autoencoder=lambda w: FILES.latents_autoencoder(w.latents),
        vgg=lambda w: FILES.vgg(CONFIG.latents[w.latents].autoencoder),
    output:
        rows=L.reconstruction("{latents}"),
        pairs=L.pairs("{latents}"),
        receipt=receipt(L.reconstruction("{latents}")),
    log:
        L.log("reconstruct", "{latents}"),
    benchmark:
        L.benchmark("reconstruct", "{latents}")
    resources:
        **computing(mem_mb=6000),
    params:
        config=argument(lambda w: job_arguments.reconstruct(CONFIG, w.latents)),
        measuring=lambda w: pairs(FILES.reconstructing(w.latents)),
        call=call("reconstruct", images=lambda w: CONFIG.latents[w.latents].batch, **MEASURING),


# On request, `snakemake verify`: checks every chunk and the metadata of every store of latents. It has no output, so it
# always runs when requested. `diffprobe verify --repair` removes damaged parts.
use rule handle as verify with:
    input:
        store=[L.latents(name) for name in used_latents(CONFIG)],
    log:
        L.log("verify"),
    resources:
        **handling(minutes=240),
    params:
        config=no_argument,
        call=call("verify"),
