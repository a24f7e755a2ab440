# From shards and a split to checkpoints and predictions.


rule resolve:
    output:
        config="runs/{trainset}/{experiment}/config.json",
    log:
        "logs/runs/{trainset}/{experiment}/resolve.log",
    benchmark:
        "logs/runs/{trainset}/{experiment}/resolve.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=500,
    params:
        study=lambda w: plan.training(w.trainset, w.experiment),
    message:
        "Write the configuration of {wildcards.experiment} on {wildcards.trainset}"
    shell:
        "avsl-train resolve --study {params.study:q} --trainset {wildcards.trainset}"
        " --experiment {wildcards.experiment} --out {output.config} &> {log}"


# Beside the outputs a run folder holds what a killed training goes on from, last.pt and metrics.jsonl.
rule train:
    input:
        config=rules.resolve.output.config,
        shards=lambda w: plan.shards(study.trainsets[w.trainset].datasets),
        split=lambda w: plan.train_split_file(w.trainset),
    output:
        checkpoint="runs/{trainset}/{experiment}/seed{seed}/checkpoint.pt",
        run="runs/{trainset}/{experiment}/seed{seed}/run.json",
    log:
        "logs/runs/{trainset}/{experiment}/seed{seed}/train.log",
    benchmark:
        "logs/runs/{trainset}/{experiment}/seed{seed}/train.benchmark.tsv"
    threads: lambda w: study.trainsets[w.trainset].threads
    resources:
        mem_mb=lambda w: study.trainsets[w.trainset].mem_mb,
    params:
        shards=lambda w: plan.shard_options(study.trainsets[w.trainset].datasets),
        run=subpath(output.checkpoint, parent=True),
    message:
        "Train {wildcards.experiment} on {wildcards.trainset}, seed {wildcards.seed}"
    shell:
        "avsl-train fit --config {input.config} {params.shards:q} --split {input.split} --seed {wildcards.seed}"
        " --out {params.run} --threads {threads} &> {log}"


rule predict:
    input:
        checkpoint=lambda w: plan.run_file(w.experiment, w.testset, w.seed, "checkpoint.pt"),
        shards=lambda w: plan.shards([study.testsets[w.testset].dataset]),
        split=lambda w: plan.split_file(w.testset),
    output:
        predictions="results/{experiment}_{testset}/seed{seed}/predictions.npz",
    log:
        "logs/results/{experiment}_{testset}/seed{seed}/predict.log",
    benchmark:
        "logs/results/{experiment}_{testset}/seed{seed}/predict.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=lambda w: study.trainsets[study.testsets[w.testset].trainset].mem_mb,
    params:
        shards=lambda w: plan.shard_options([study.testsets[w.testset].dataset]),
        subsets=lambda w: ",".join(study.testsets[w.testset].subsets),
    message:
        "Predict {wildcards.testset} with {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "avsl-train predict --checkpoint {input.checkpoint} {params.shards:q}"
        " --clips {input.split}:{params.subsets} --out {output.predictions} --threads {threads} &> {log}"
