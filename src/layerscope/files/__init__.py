"""Files that are whole or absent, read only where they are what they should be, and folders with one writer."""
