"""What decides a run: typed recipes, read from YAML."""
