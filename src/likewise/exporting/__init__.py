"""Writes a model as a folder that other tools load: ONNX, torch.export, safetensors, transformers, timm; and runs it fast.

Public names: ``export.export``, ``export.Exported``, ``runtime.runner``.
"""
