"""Training: recipes, the data of the procedural world, and the stages of the default model."""
