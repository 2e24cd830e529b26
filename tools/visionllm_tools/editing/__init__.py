"""Pictures changed as told: the `[EDIT]` tool."""
