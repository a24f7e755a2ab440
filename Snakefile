# The workflow: catalog -> clips -> shards -> split -> training -> predictions -> scores -> report.
# Rules are in rules/, the configuration is config/config.yaml and config/experiments/; docs/workflow.md describes both.

import sys
from pathlib import Path

from snakemake.utils import min_version, validate

from avsl_train.plan import Plan, or_exit
from avsl_train.study import load_study

min_version("9.20")


configfile: Path(workflow.basedir, "config/config.yaml")


for experiments in sorted(Path(workflow.basedir, "config/experiments").glob("*.yaml")):

    configfile: experiments


study = or_exit(load_study, config)
plan = Plan(study)
validate(study.model_dump(mode="json"), "schemas/config.schema.json", set_default=False)

shell.prefix(plan.shell_prefix(sys.executable))


# Used only with --software-deployment-method apptainer; apptainer.def says how to build it.
container: "avsl.sif"


wildcard_constraints:
    bucket=r"\d{4}",
    dataset=r"[^/]+",
    experiment=r"(?!benchmark_)[^/]+",
    name=r"[^/]+",
    owner=r"[^/]+",
    recipe=r"[^/]+",
    seed=r"\d+",
    subset=r"[^/.]+",
    testset=r"[^/_.]+",
    trainset=r"[^/]+",


rule all:
    input:
        expand("results/report_{testset}.html", testset=study.report_testsets),


rule demo:
    input:
        expand("results/{experiment}_demo.json", experiment=study.report_experiments),
        "results/report_demo.html",


include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/eval.smk"
