"""Training: the recipe of the embedded model, and LoRA adapters for a user's own domain."""
