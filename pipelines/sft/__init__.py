"""Supervised fine-tuning: the base pointer, chat formatting and masks, QLoRA loading, training."""
