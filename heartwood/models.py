"""``heartwood models``."""


def models() -> None:
    """Make one experiment a model (base, sft-100, ...), for `dvc metrics diff base sft-100`."""
    from pipelines.experiments.models import make_model_experiments
    from pipelines.provenance.revision import open_revision
    from pipelines.provenance.stage import look_up
    from pipelines.provenance.verify import read_yaml

    names = list(look_up(read_yaml(open_revision("workspace"), "params.yaml"), "models"))
    make_model_experiments(names)
    print(f"experiments {', '.join(names)} are ready: dvc metrics diff {names[0]} {names[-1]}")
