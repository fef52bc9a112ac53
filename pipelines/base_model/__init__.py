"""How the embedded base model in ``models/base`` was made: tokenizer, pretraining and export."""
