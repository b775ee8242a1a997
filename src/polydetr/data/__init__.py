"""Rows: where they come from, what is wrong with them, how they are split. Import the module that you need."""
