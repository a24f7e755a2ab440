# From predictions to scores, results and the page that shows them.


rule score:
    input:
        predictions=rules.predict.output.predictions,
        annotations=rules.subset_annotations.output.annotations,
    output:
        scores="results/{experiment}_{testset}/seed{seed}/{subset}.json",
        per_clip="results/{experiment}_{testset}/seed{seed}/{subset}.csv",
    log:
        "logs/results/{experiment}_{testset}/seed{seed}/{subset}.log",
    benchmark:
        "logs/results/{experiment}_{testset}/seed{seed}/{subset}.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        protocols=study.protocols,
        missing=lambda w: study.testsets[w.testset].missing,
    message:
        "Score {wildcards.experiment} on {wildcards.testset}, seed {wildcards.seed}: {wildcards.subset}"
    shell:
        "avsl-eval score --predictions {input.predictions} --annotations {input.annotations}"
        " --protocol {params.protocols} --missing {params.missing} --name {wildcards.experiment}"
        " --out {output.scores} --per-clip {output.per_clip} --workers {threads} &> {log}"


rule collect:
    input:
        scores=lambda w: or_exit(plan.scores, w.experiment, w.testset),
        runs=lambda w: plan.runs(w.experiment, w.testset),
    output:
        results="results/{experiment}_{testset}.json",
    log:
        "logs/results/{experiment}_{testset}/collect.log",
    benchmark:
        "logs/results/{experiment}_{testset}/collect.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    message:
        "Collect the results of {wildcards.experiment} on {wildcards.testset}"
    shell:
        "avsl-eval collect --name {wildcards.experiment} --testset {wildcards.testset}"
        " --scores {input.scores} --run {input.runs} --out {output.results} &> {log}"


rule benchmark_cell:
    input:
        scores=lambda w: or_exit(plan.scores, w.experiment, w.testset, w.name),
        runs=lambda w: plan.runs(w.experiment, w.testset, w.name),
    output:
        results="results/benchmark_{name}/{experiment}_{testset}.json",
    log:
        "logs/results/benchmark_{name}/{experiment}_{testset}.log",
    benchmark:
        "logs/results/benchmark_{name}/{experiment}_{testset}.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    message:
        "Collect {wildcards.experiment} on {wildcards.testset} for the benchmark {wildcards.name}"
    shell:
        "avsl-eval collect --name {wildcards.experiment} --testset {wildcards.testset}"
        " --scores {input.scores} --run {input.runs} --out {output.results} &> {log}"


rule benchmark_table:
    input:
        cells=lambda w: or_exit(plan.cells, w.name),
    output:
        table="results/benchmark_{name}.json",
    log:
        "logs/results/benchmark_{name}.log",
    benchmark:
        "logs/results/benchmark_{name}.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        options=lambda w: plan.benchmark_options(w.name),
    message:
        "Compare the experiments of the benchmark {wildcards.name}"
    shell:
        "avsl-eval benchmark {input.cells} {params.options:q} --out {output.table} &> {log}"


rule gallery:
    input:
        results=lambda w: or_exit(plan.results, w.testset),
    output:
        ids="results/gallery_{testset}.txt",
    log:
        "logs/results/frames/{testset}.gallery.log",
    benchmark:
        "logs/results/frames/{testset}.gallery.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    message:
        "Choose clips of {wildcards.testset} to show"
    shell:
        "avsl-eval gallery --scores {input.results} --out {output.ids} &> {log}"


rule frames:
    input:
        ids=rules.gallery.output.ids,
        shards=lambda w: plan.shards([study.testsets[w.testset].dataset]),
    output:
        frames=directory("results/frames/{testset}"),
    log:
        "logs/results/frames/{testset}.frames.log",
    benchmark:
        "logs/results/frames/{testset}.frames.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        shards=lambda w: plan.shard_options([study.testsets[w.testset].dataset]),
    message:
        "Export the frames of {wildcards.testset} to show"
    shell:
        "avsl-data frames {params.shards:q} --ids {input.ids} --out {output.frames} &> {log}"


rule report:
    input:
        results=lambda w: or_exit(plan.results, w.testset),
        frames=rules.frames.output.frames,
    output:
        page="results/report_{testset}.html",
    log:
        "logs/results/report_{testset}.log",
    benchmark:
        "logs/results/report_{testset}.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=1500,
    message:
        "Write the page of {wildcards.testset}"
    shell:
        "avsl-eval report --results {input.results} --frames {input.frames} --out {output.page} &> {log}"
