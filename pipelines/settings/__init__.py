"""params.yaml as strict models: unknown keys, wrong types and impossible values are errors."""
