"""Network blocks without a story: convolution, attention, WaveNet, flow, StyleGAN2."""
