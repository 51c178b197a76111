"""Every setting of a run, its default and its checks; no module here imports torch.

Public names: ``settings.FitSettings``, ``overrides.settings_from``, ``checks.check``.
"""
