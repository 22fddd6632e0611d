"""What a run takes, before it is paid: bytes, seconds, whether it fits a device, and the smallest change that makes it fit.

request       what is asked: settings, configurations, a device
parts         bytes of weights by number format and quantization
activations   bytes that a forward takes beside them, by closed formulas
vae_layers    the layers of the VAE
vae           bytes and arithmetic of the VAE, by walking through its layers
memory        bytes by stage of a run
cards         known cards, and this machine
seconds       seconds by stage, what block swap costs
fits          the verdict, the smallest change, automatic placement
estimate      all of it in one answer
dry_run       torch: the same bytes by running the real classes on fake tensors
calibrate     torch: the same seconds by measuring one block
"""
