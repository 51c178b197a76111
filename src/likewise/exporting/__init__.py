"""Writes a model as a folder that other tools load: ONNX, torch.export, safetensors; and runs it quickly.

Public names: ``export.export``, ``export.Exported``, ``runtime.runner``.
"""
