"""What templates may ask of this app."""
