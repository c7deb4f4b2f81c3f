"""Speaking in the manner of a clip, learned: our reconstruction of ERLNet's audio-driven module (arXiv 2404.19038).

Of that paper the abstract alone is public. What is built here is ours, and so are all sizes, losses and figures.

==========================================  =====================================================================================
the abstract's words                        where they stand
==========================================  =====================================================================================
"audio-driven FLAME (ADF) module"           ``erlnet.driver.LearnedManner``, on the curves of the open head in FLAME's place
"facial expression"                         one VQ-VAE: ``training.erlnet.networks.MotionCodes`` of ``erlnet.parts.EXPRESSION``
"and head pose sequences"                   another one, of ``erlnet.parts.POSE``
"synchronized with content audio"           ``erlnet.hearing.Hearing``, ``training.erlnet.networks.CodePredictor``
"and style video"                           ``training.erlnet.networks.StyleEncoder``, ``erlnet.model.ErlnetModel.style``
"style-controllable"                        before the codes: ``training.erlnet.networks.CodePredictor.forward``
"two learning stages"                       ``training.erlnet.manner`` is the first; the second draws: ``erlnet.field``
==========================================  =====================================================================================

``docs/erlnet.md`` tells what is known, what is made up, and what it reaches.
"""
