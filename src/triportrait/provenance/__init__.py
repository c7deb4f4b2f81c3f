"""Marks on generated video, on by default, and the detector that finds them again.

Three layers, in the order they are applied to a result:

1. :mod:`.label`: a small visible badge (a user may switch it off),
2. :mod:`.watermark`: an invisible, robust mark in the luma of every frame, with the number of the :mod:`.maker`,
3. :mod:`.manifest`: a signed C2PA manifest in the finished file, or a JSON note beside it where C2PA cannot go.

:mod:`.waves` has the watermark's key, :mod:`.reading` reads it back, and :mod:`.detect` joins the two machine-readable
layers. Nothing here opens media: frames come decoded.
"""
