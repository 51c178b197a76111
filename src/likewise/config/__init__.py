"""All settings of a run, with their defaults and checks; no module here imports torch.

Public names: ``settings.FitSettings``, ``overrides.settings_from``, ``checks.check``.
"""
