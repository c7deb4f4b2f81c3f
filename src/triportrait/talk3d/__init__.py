"""Talk3D (Ko et al., 2024, arXiv 2403.20153): one person's planes, changed from frame to frame by a voice.

The paper's equations are not in the public text; sections and figures stand for them, and ``docs/spec/talk3d_erlnet_eg3d.md`` has the
facts of the published code.

==============================  ==========================================================================
what drives a frame (A.4)       five tokens (voice, lids, rest, rotation, landmarks): ``talk3d.tokens.PersonalTokens.forward``
the delta plane (A.4)           attention U-Net with split convolutions: ``talk3d.delta_plane.PersonalDeltaPlane.forward``
planes seen as profiles         roll-out: ``nn.plane_layers.roll_out``
the person's own planes (A.3)   EG3D's generator: ``real3d.eg3d_prior.Prior.forward``
sizes as published              ``talk3d.networks``
==============================  ==========================================================================
"""
