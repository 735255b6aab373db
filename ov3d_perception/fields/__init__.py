"""Radiance fields that know words: from posed images to views, masks and the semantic map."""
