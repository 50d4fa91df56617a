"""Other programs' weights: read without trust, recognised by their tensors, converted once.

    files ── checkpoint ──▶ tensors, facts ── an adapter ──▶ config, tensors ── adding ──▶ folder

Readers (`torchfile`, `tensorflow`, `onnx`) know a container and nothing of networks. Adapters, one
small file a family, know how its tensors are called. Networks know neither.
"""
