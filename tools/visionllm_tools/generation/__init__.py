"""Pictures from captions: the `[GEN]` tool."""
