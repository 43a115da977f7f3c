"""Pure torch: from two small matrices per head to mappings, ranks and nulls; no names, no files, no clock."""
