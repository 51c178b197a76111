"""Writes a model for other tools (ONNX, torch.export, safetensors, transformers, timm), and runs it fast.

Public names: ``export.export``, ``export.Exported``, ``runtime.runner``.
"""
