"""Talk3D (Ko et al., 2024, arXiv 2403.20153): one person's planes, changed from frame to frame by a voice.

The paper's equations are not in the public text; sections and figures stand for them, and ``docs/spec/talk3d_erlnet_eg3d.md`` has the
facts of the published code.

==============================  ==========================================================================
what drives a frame (A.4)       five tokens (voice, lids, rest, rotation, landmarks): ``talk3d.tokens.PersonalTokens.forward``
windows of speech (A.2)         sixteen rows an entry, eight entries a frame: ``talk3d.speech.SpeechWindows``
the delta plane (A.4)           attention U-Net with split convolutions: ``talk3d.delta_plane.PersonalDeltaPlane.forward``
P'_n = P_ID + dP_n (figure 2)   ``talk3d.model.PersonalAvatar.planes``
planes seen as profiles         roll-out: ``nn.plane_layers.roll_out``
the cameras (A.3)               yaw and pitch on a sphere: ``talk3d.person.cameras_of_angles``
the person's own planes (A.3)   EG3D's generator: ``real3d.eg3d_prior.Prior.planes``
joint inversion (A.3, step 1)   ``training.talk3d.inversion.InversionStage.losses``
tuning (A.3, step 2)            ``training.talk3d.inversion.TuningStage.losses``
losses (A.5)                    ``training.talk3d.stage.PersonalStage.losses``
sizes as published              ``talk3d.networks``
==============================  ==========================================================================

EG3D's generator and renderer live in ``real3d``; ``personal`` joins them to the networks of this room.
"""
