"""How the packaged model is trained: recipes, batches of the world, and the stages."""
