"""The decision, pure: Pod + settings -> plan (every reason) -> JSON Patch operations.

No I/O, no clock, no framework: import-linter keeps it so. Read bottom-up: names, reasons, pod, profile, settings, helper,
budget, status, plan, patch.
"""
