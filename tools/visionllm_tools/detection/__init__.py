"""Detection, grounding and segmentation: the decoder behind `[DET]`, `[GRD]` and `[SEG]`."""
