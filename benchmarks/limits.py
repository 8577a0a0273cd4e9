"""What is left between us and the limit, in words."""

LIMITS = ""
