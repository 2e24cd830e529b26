"""What image generation and image editing share: conditioning, parts, samplers, loss, pipelines."""
