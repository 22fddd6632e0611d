"""A model: where its files are (`checkpoint`, no torch), and its loaded weights (`model`)."""
