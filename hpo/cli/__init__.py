"""The command line: parsers, dispatch, exit codes. Nothing heavy is imported before a command needs it."""
