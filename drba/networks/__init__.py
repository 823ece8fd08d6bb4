"""Neural interpolators (torch is imported here, and only here and in engines/)."""
