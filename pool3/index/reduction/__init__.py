"""Reduction of vectors to the short ones in the trees: fitting, applying and storing it.

Annoy always runs ``euclidean`` on reduced vectors. ``angular``: rows are L2-normalised, then
centred PCA. ``euclidean``: centred PCA. ``dot``: uncentred PCA, then one more column
sqrt(M^2 - |x|^2), 0 for a query, where M is the length of the longest reduced row of the shard: the
nearest rows are then those with the largest inner product (Bachrach et al., RecSys 2014). Vectors
of at most `pool3.index.reduction.pca.MAX_DIMENSION` numbers are not projected.
"""
