"""Where catalogs and recipes are kept: files and the recipe database."""
