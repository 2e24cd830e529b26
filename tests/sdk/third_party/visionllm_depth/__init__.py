"""A package of somebody else, with a tool for a routing token that the SDK has never heard of."""
