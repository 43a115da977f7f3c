"""From mappings to claims about heads: drafters, the controls that expose them, and relatedness of meaning."""
