"""Measurements of a net or of its logits; each returns an xarray.Dataset."""
