"""Does the model need the heads that its weights name? Heads of a relation are removed while it does the relation's task."""
