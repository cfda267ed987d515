"""Raw input with a position: files (plain, compressed or zipped)."""

from k2kernel.sources.files import Block, Digest, Member, digest, is_wide, members, text_blocks

__all__ = ["Block", "Digest", "Member", "digest", "is_wide", "members", "text_blocks"]
