"""Transformer blocks that several decoders share: deformable attention, label fusion, boxes, positions."""
