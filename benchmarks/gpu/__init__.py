"""One check of everything on a GPU, for a machine where nothing can be installed: `--help`."""
