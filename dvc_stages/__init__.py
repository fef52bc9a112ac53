"""One thin module a stage of dvc.yaml: read params and inputs, call the library, write outs."""
