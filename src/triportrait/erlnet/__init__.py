"""ERLNet (arXiv 2404.19038), as we reconstruct it from its abstract: the dual-branch field, see ``docs/erlnet_field.md``."""
