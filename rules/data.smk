# From published lists to shards of frames and sounds, and the division of the clips into subsets.
# What a job has done so far (clips, ledger lines) is not among its outputs: snakemake removes the outputs of a
# job before it starts, and a download has to go on where it was stopped.


rule render_site:
    output:
        site=directory("data/{dataset}/site"),
    log:
        "logs/data/{dataset}/render_site.log",
    benchmark:
        "logs/data/{dataset}/render_site.benchmark.tsv"
    threads: 2
    resources:
        mem_mb=1000,
    params:
        options=lambda w: plan.render_options(w.dataset),
    message:
        "Render the site of {wildcards.dataset}"
    shell:
        "avsl-data render --out {output.site} {params.options:q} --workers {threads} &> {log}"


rule catalog:
    input:
        unpack(lambda w: or_exit(plan.origin, w.dataset)),
    output:
        catalog="data/{dataset}/catalog.parquet",
    log:
        "logs/data/{dataset}/catalog.log",
    benchmark:
        "logs/data/{dataset}/catalog.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        source=lambda w: study.datasets[w.dataset].source,
        buckets=lambda w: study.datasets[w.dataset].buckets,
        options=lambda w: plan.catalog_options(w.dataset),
    message:
        "List the clips of {wildcards.dataset}"
    shell:
        "avsl-data catalog {params.source} --out {output.catalog} --buckets {params.buckets}"
        " {params.options:q} &> {log}"


rule annotations:
    input:
        unpack(lambda w: or_exit(plan.origin, w.dataset)),
    output:
        annotations="data/{dataset}/annotations.json",
    log:
        "logs/data/{dataset}/annotations.log",
    benchmark:
        "logs/data/{dataset}/annotations.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        source=lambda w: study.datasets[w.dataset].source,
        options=lambda w: plan.annotations_options(w.dataset),
    message:
        "Write the boxes of {wildcards.dataset}"
    shell:
        "avsl-data annotations {params.source} --out {output.annotations} {params.options:q} &> {log}"


rule download:
    input:
        unpack(lambda w: or_exit(plan.clips, w.dataset)),
        catalog=rules.catalog.output.catalog,
    output:
        ledger="data/{dataset}/ledger/{bucket}.parquet",
    log:
        "logs/data/{dataset}/download/{bucket}.log",
    benchmark:
        "logs/data/{dataset}/download/{bucket}.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        network=lambda w: plan.downloads(w.dataset),
    params:
        clips="data/{dataset}/clips",
        options=lambda w: plan.download_options(w.dataset),
    message:
        "Download {wildcards.dataset}, bucket {wildcards.bucket}"
    shell:
        "avsl-data download --catalog {input.catalog} --bucket {wildcards.bucket} --clips {params.clips}"
        " --ledger {output.ledger} {params.options:q} &> {log}"


rule preprocess:
    input:
        catalog=rules.catalog.output.catalog,
        ledger=rules.download.output.ledger,
        annotations=lambda w: plan.boxes(w.dataset),
    output:
        shard="data/{dataset}/shards/{bucket}.parquet",
    log:
        "logs/data/{dataset}/preprocess/{bucket}.log",
    benchmark:
        "logs/data/{dataset}/preprocess/{bucket}.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        options=lambda w: plan.preprocess_options(w.dataset),
    message:
        "Decode {wildcards.dataset}, bucket {wildcards.bucket}"
    shell:
        "avsl-data preprocess --ledger {input.ledger} --catalog {input.catalog} --out {output.shard}"
        " {params.options:q} --workers {threads} &> {log}"


rule split:
    input:
        unpack(lambda w: plan.split_inputs(w.owner)),
    output:
        split="data/{owner}/splits/{recipe}.parquet",
    log:
        "logs/data/{owner}/split.{recipe}.log",
    benchmark:
        "logs/data/{owner}/split.{recipe}.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        options=lambda w: plan.split_options(w.owner),
    message:
        "Divide the clips of {wildcards.owner} by {wildcards.recipe}"
    shell:
        "avsl-data split {wildcards.recipe} --out {output.split} {params.options:q} &> {log}"


rule subset_annotations:
    input:
        unpack(lambda w: or_exit(plan.origin, study.testsets[w.testset].dataset)),
        split=lambda w: plan.split_file(w.testset),
    output:
        annotations="data/{testset}/annotations/{subset}.json",
    log:
        "logs/data/{testset}/annotations.{subset}.log",
    benchmark:
        "logs/data/{testset}/annotations.{subset}.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        source=lambda w: study.datasets[study.testsets[w.testset].dataset].source,
        options=lambda w: plan.annotations_options(study.testsets[w.testset].dataset),
    message:
        "Write the boxes of {wildcards.testset}, subset {wildcards.subset}"
    shell:
        "avsl-data annotations {params.source} --out {output.annotations} {params.options:q}"
        " --split {input.split} --subset {wildcards.subset} &> {log}"


rule hub:
    input:
        unpack(lambda w: or_exit(plan.hub_inputs, w.dataset)),
    output:
        card="data/{dataset}/hub/README.md",
    log:
        "logs/data/{dataset}/hub.log",
    benchmark:
        "logs/data/{dataset}/hub.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        folder=subpath(output.card, parent=True),
        options=lambda w: plan.hub_options(w.dataset),
    message:
        "Write the folder of {wildcards.dataset} for `datasets`"
    shell:
        "avsl-data hub --out {params.folder} {params.options:q} &> {log}"


rule sheet:
    input:
        shards=lambda w: or_exit(plan.hub_inputs, w.dataset)["shards"],
        annotations=lambda w: plan.boxes(w.dataset),
    output:
        sheet="data/{dataset}/sheet.{kind}",
    log:
        "logs/data/{dataset}/sheet.{kind}.log",
    benchmark:
        "logs/data/{dataset}/sheet.{kind}.benchmark.tsv"
    wildcard_constraints:
        kind="jpg|png|html",
    threads: 1
    resources:
        mem_mb=1500,
    params:
        options=lambda w: plan.sheet_options(w.dataset),
    message:
        "Draw frames and boxes of {wildcards.dataset}"
    shell:
        "avsl-data sheet --out {output.sheet} {params.options:q} &> {log}"
