"""One module per subject: `run(stage)` yields tables, the docstring says what is measured and how."""
