"""Transformer blocks that several decoders share: deformable attention, fusion with labels, boxes, positions."""
