"""The model under study: its files, tensors, circuits, first block and vocabulary."""

from describe.subject.model import SubjectModel, load_subject

__all__ = ["SubjectModel", "load_subject"]
