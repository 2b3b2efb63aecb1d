"""A complete DALL·E."""
