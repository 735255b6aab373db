"""The semantic map: what was seen where, in features that can be asked in words."""
