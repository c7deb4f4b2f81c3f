"""Real3D-Portrait (Ye et al., ICLR 2024, arXiv 2401.08503), whole: networks, renderer, driver, avatar, pipeline.

Equation of the paper -> where it is computed; the line says its number.

===========  ==============================================================================================
eq. 1, 8     PNCC of a face model's coefficients: ``face.pncc.PnccRenderer.render``
eq. 2        planes changed by the motion adapter, rendered, enlarged: ``real3d.avatar.OneShotAvatar.look``
eq. 3        losses of the motion adapter's stage: ``training.real3d.heads.HeadStage.picture_terms``
eq. 4        Laplacian loss: ``training.real3d.motion_adapter.MotionAdapterStage``
eq. 5        head, torso and background joined: ``real3d.head_torso_background.HtbSuperResolution.forward``
eq. 6        losses of audio to motion: ``training.real3d.audio_to_motion.AudioToMotionStage.losses``
eq. 7        losses of image to plane: ``training.real3d.heads.HeadStage.picture_terms``
eq. 9        key points of the torso: ``real3d.pipeline.PaperPipeline.key_points``
eq. 10       the torso warped by key points: ``real3d.torso.TorsoNetwork.forward``
eq. 11       volume rendering: ``real3d.compositing.composite``
===========  ==============================================================================================

Sizes are those of Table 6: ``real3d.networks``. The switches of Table 4: ``real3d.variants``. Facts of the published code: ``docs/spec``.
"""
