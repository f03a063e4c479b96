"""Speed, measured beside others in one run: `make bench`. See README.md beside this file."""
