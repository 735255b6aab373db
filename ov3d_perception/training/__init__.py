"""Training runs of a recipe, fine-tuning, tables; networks adapted and calibrated."""
