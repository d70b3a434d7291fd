"""Numbers that judge a trained encoder: pure functions of features ``[n, d]`` and labels ``[n]``.

They run on the host in float64, know no model and no data set, and stand beside their null values:
most of the original's scores are far from 0 where nothing is to be found (spec/vae.md, 11, 17).
"""
