# Fine-tuning at the chosen cell: a training run for each learning rate if there are several, and one for each seed.


use rule compute as finetuning with:
    input:
        images=lambda w: FILES.images(w.experiment),
        latents=lambda w: FILES.latents(w.experiment),
        autoencoder=lambda w: FILES.autoencoder(w.experiment),
        choice=L.choice("{experiment}"),
        weights=lambda w: FILES.of_checkpoints("probed_weights", w.experiment),
        setting=lambda w: FILES.setting(w.experiment, w.evaluator, w.trial),
    output:
        **outputs(L.finetuning("{experiment}", "{evaluator}", "{trial}")),
    log:
        L.log("finetuning", "{experiment}", "{evaluator}", "{trial}", "{kimg}"),
    benchmark:
        L.benchmark("finetuning", "{experiment}", "{evaluator}", "{trial}", "{kimg}")
    threads: CONFIG.threads.train
    resources:
        **computing(
            mem_mb=lambda w: memory.training(CONFIG, experiment(w)),
            minutes=1440,
            gpu=lambda w: GPU * experiment(w).train.devices,
        ),
    params:
        config=of_experiment(
            lambda e, w: probe_job_arguments.finetuning(CONFIG, e, w.evaluator, w.trial),
            "experiment",
            "evaluator",
            "trial",
        ),
        stop=FINETUNING_STOP,
        run=L.finetuning("{experiment}", "{evaluator}", "{trial}"),
        call=call(
            "train",
            progress=f"{L.finetuning('{experiment}', '{evaluator}', '{trial}')}/progress.json",
            kimg=kimg,
            start=0,
            stop=FINETUNING_STOP,
            **ON_DEVICES,
            **SAVING,
        ),


use rule compute as finetune_lr with:
    input:
        choice=L.choice("{experiment}"),
        images=lambda w: FILES.images(w.experiment),
        data=lambda w: FILES.data(w.experiment),
        run=lambda w: FILES.finetuned(w.experiment, w.evaluator, True),
    output:
        rows=L.finetune_lr("{experiment}", "{evaluator}"),
        receipt=receipt(L.finetune_lr("{experiment}", "{evaluator}")),
    log:
        L.log("finetune_lr", "{experiment}", "{evaluator}"),
    benchmark:
        L.benchmark("finetune_lr", "{experiment}", "{evaluator}")
    wildcard_constraints:
        evaluator=any_of(named_evaluators("finetune")),
    resources:
        **computing(mem_mb=probing_memory, minutes=120),
    params:
        config=of_experiment(lambda e, w: probe_job_arguments.finetuned(e, w.evaluator, row(w), True)),
        call=call("finetuned", batch=lambda w: experiment(w).probe.batch, **AUTOSAVE),


use rule finetune_lr as finetune with:
    input:
        choice=L.choice("{experiment}"),
        images=lambda w: FILES.images(w.experiment),
        data=lambda w: FILES.data(w.experiment),
        run=lambda w: FILES.finetuned(w.experiment, w.evaluator, False),
        setting=lambda w: FILES.setting(w.experiment, w.evaluator, ""),
    output:
        rows=L.test("{experiment}", "{evaluator}"),
        receipt=receipt(L.test("{experiment}", "{evaluator}")),
    log:
        L.log("finetune", "{experiment}", "{evaluator}"),
    benchmark:
        L.benchmark("finetune", "{experiment}", "{evaluator}")
    wildcard_constraints:
        evaluator=any_of(named_evaluators("finetune")),
    params:
        config=of_experiment(lambda e, w: probe_job_arguments.finetuned(e, w.evaluator, row(w), False)),
        call=call("finetuned", batch=lambda w: experiment(w).probe.batch, **AUTOSAVE),
