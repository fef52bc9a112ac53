"""What is built on curated data: training, evaluation, provenance, experiments and reporting."""
