"""Training on records: recipes, records and their batches, and the trainers of each method."""
