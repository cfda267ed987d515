"""The HTTP query surface: routes, formats, cursors and their protection."""
