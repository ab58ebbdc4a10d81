"""What people call from Python, and what the command line is written on."""
