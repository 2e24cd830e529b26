"""The torch model: tiles, vision encoder, bridge, language model, super-links, checkpoints.

Import the module you need; this package itself imports nothing, so that torch-free parts stay instant.
"""
