"""The built-in routed tools of visionllm-sdk: one folder per skill, found through entry points."""
