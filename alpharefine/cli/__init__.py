"""The command ``alpharefine`` and its subcommands."""
