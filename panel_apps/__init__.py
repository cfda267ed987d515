"""The workbench for programs and people outside the notebook: one process that serves HTTP."""
