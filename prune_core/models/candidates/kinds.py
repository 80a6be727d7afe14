"""Names of the kinds of candidates. Imports nothing, for processes whose memory is measured."""

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
