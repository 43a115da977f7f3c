"""The model under study: its files, tensors, circuits, first block and vocabulary."""
