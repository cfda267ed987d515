"""Raw batches to contract rows and rejects: pure and vectorised, driven by a profile."""

from k2kernel.decode.decoder import Decoded, Decoder

__all__ = ["Decoded", "Decoder"]
