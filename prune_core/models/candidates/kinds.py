"""Kinds of candidates. No imports: processes whose memory is measured use this module."""

CHECKPOINT, ONNX, OPENVINO = "checkpoint", "ONNX", "OpenVINO"
TORCHSCRIPT, EXPORTED, TABLE = "TorchScript", "torch.export", "table of predictions"
TITLES = {
    CHECKPOINT: "a checkpoint",
    ONNX: "an ONNX file",
    OPENVINO: "an OpenVINO file",
    TORCHSCRIPT: "a TorchScript file",
    EXPORTED: "a torch.export file",
    TABLE: "a table of predictions",
}
