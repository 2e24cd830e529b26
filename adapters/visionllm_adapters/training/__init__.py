"""Fine-tuning: lessons from labelled pictures, what learns, the loop, the run on the disk."""
