"""A run as one page: curves, figures and pictures, in a single HTML file."""
