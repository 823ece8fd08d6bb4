"""The offline renderer: one film in, one film with in-between frames out. The map is docs/rendering.md."""
